//! Files that commands write: checks, locks, and copies of older ones.

use crate::checkpoint::atomic::{
    behind_links, existing_folder_of, folder_of, hidden_name, written_beside,
};
use crate::error::{Error, Result};
use same_file::Handle;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind::AlreadyExists, ErrorKind::NotFound};
use std::path::{Path, PathBuf};

/// Whether two paths mean one file, which need not be there yet.
pub(crate) fn is_same_place(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let missing = || Some(std::fs::canonicalize(folder_of(path)).ok()?.join(path.file_name()?));
        std::fs::canonicalize(path).ok().or_else(missing)
    };
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// Checks that [`write_new`] can write a file at `path`, before the work that makes it.
///
/// # Errors
/// [`Error::Write`]
pub(crate) fn check_new(path: &Path, flag: &str) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(exists(path, flag)),
        Err(_) => written_beside(path, b"").map(drop),
    }
}

fn exists(path: &Path, flag: &str) -> Error {
    let problem = format!("it exists already; choose another file with {flag}");
    Error::write(path, io::Error::other(problem))
}

/// Writes `bytes` to a new file at `path`, which `flag` can change, completely or not at all.
///
/// # Errors
/// [`Error::Write`], also where the file exists.
pub(crate) fn write_new(path: &Path, bytes: &[u8], flag: &str) -> Result<()> {
    match written_beside(path, bytes)?.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == AlreadyExists => Err(exists(path, flag)),
        Err(error) => Err(Error::write(path, error.error)),
    }
}

/// Where [`keep_older`] keeps the file at `path`: as `.NAME.old` beside it.
pub(crate) fn kept_place(path: &Path) -> PathBuf {
    let place = if path.is_symlink() { behind_links(path) } else { path.to_path_buf() };
    place.with_file_name(hidden_name(&place, ".old"))
}

/// Keeps the file at `path` in its [`kept_place`] too. A file that is kept there already stays.
///
/// # Errors
/// [`Error::Read`], or [`Error::Write`] with the place that could not be written.
pub(crate) fn keep_older(path: &Path) -> Result<()> {
    let kept = kept_place(path);
    match std::fs::hard_link(behind_links(path), &kept) {
        // Where it is not found, it has been removed.
        Err(error) if ![AlreadyExists, NotFound].contains(&error.kind()) => {
            // A file system without links.
            let bytes = std::fs::read(path).map_err(|error| Error::read(path, error))?;
            write_new(&kept, &bytes, "-o")
        }
        _ => Ok(()),
    }
}

/// A lock on a file that is to be written, held until it is dropped.
///
/// It is an advisory lock on a side file, `.NAME.lock`, so that it ends with the process, however
/// that ends; a side file that was left behind is not locked. Reading needs no lock, since the place
/// holds a complete file at any time.
#[derive(Debug)]
pub(crate) struct FileLock {
    side: PathBuf,
    _locked: File,
}

impl FileLock {
    /// Locks the file at `path`, which need not exist.
    ///
    /// # Errors
    /// [`Error::Write`] where it is locked already, or the folder cannot be written.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let cannot_write = |source| Error::write(path, source);
        let place = behind_links(path);
        existing_folder_of(path, &place)?;
        let side = place.with_file_name(hidden_name(&place, ".lock"));
        if side.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            // To open a pipe would wait for its other end.
            return Err(Error::write(&side, io::Error::other("it is not a file")));
        }
        loop {
            let file =
                File::options().create(true).append(true).open(&side).map_err(cannot_write)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(cannot_write(io::Error::other(
                        "another char-rnn is training it; wait until it is done, or choose another \
                         file with -o",
                    )));
                }
                // A file system without locks.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(cannot_write(error)),
            }
            // The previous holder removes the side file, perhaps after it was opened here: then
            // this lock is on a file that no other process will open.
            let locked = file.try_clone().and_then(Handle::from_file).map_err(cannot_write)?;
            if Handle::from_path(&side).is_ok_and(|found| found == locked) {
                return Ok(Self { side, _locked: file });
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Before the lock is released, so that the next side file is another one.
        let _ = std::fs::remove_file(&self.side);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lock_at_a_time_is_granted_also_through_a_link() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one", "link"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&paths[0], &paths[1]).unwrap();
        #[cfg(not(unix))]
        let paths = [&paths[0], &paths[0]];
        let (holders, granted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for path in paths.iter().chain(&paths) {
                let (holders, granted) = (&holders, &granted);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        if let Ok(_lock) = FileLock::new(path) {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            granted.fetch_add(1, Ordering::SeqCst);
                            holders.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(granted.into_inner() > 0);
    }

    #[test]
    fn two_paths_of_one_file_are_the_same_place_whether_it_exists_or_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        let [plain, round, other] =
            ["one", "inner/../one", "inner/one"].map(|name| folder.path().join(name));
        for _ in 0..2 {
            assert!(is_same_place(&plain, &round) && !is_same_place(&plain, &other));
            std::fs::write(&plain, "").unwrap();
        }
    }
}
