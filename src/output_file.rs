//! Files that are written whole or not at all, and by one program at a time.
//!
//! A file is written beside its place under a temporary name, synced and renamed, so that the
//! place holds the old file or the new one and never a half, whenever the program or the computer
//! stops. A run that will write a file claims it first ([`Claim`]).

use crate::error::{Error, Result};
use same_file::Handle;
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` so that the place holds the old file or the new one, never a half.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = written_beside(path, bytes)?;
    let place = behind_links(path);
    file.persist(&place).map_err(|error| Error::write(path, error.error))?;
    // The rename itself is durable only once the folder is; not every system can sync a folder.
    if let Ok(folder) = File::open(folder_of(&place)) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Refuses a place where no file can be written, before there is anything to write.
///
/// # Errors
/// [`Error::Write`], where there is no such folder, or it is not to be written to, or `path` is a
/// folder.
pub fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::write(path, io::ErrorKind::IsADirectory.into()));
    }
    temporary_beside(path).map(drop)
}

/// Whether two paths mean one file, which need not be there yet.
pub fn is_same_place(one: &Path, other: &Path) -> bool {
    same_file::is_same_file(one, other).unwrap_or_else(|_| {
        let place = |path: &Path| {
            let folder = std::fs::canonicalize(folder_of(path)).ok()?;
            Some(folder.join(path.file_name()?))
        };
        place(one).is_some_and(|one| place(other) == Some(one))
    })
}

/// Writes `bytes` to a new file at `path`, whole or not at all. What stands there already is left
/// alone.
///
/// # Errors
/// [`Error::Write`], also where there is a file already.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = written_beside(path, bytes)?;
    file.persist_noclobber(path).map_err(|error| Error::write(path, error.error))?;
    Ok(())
}

/// A synced file that holds `bytes` and disappears unless it is given the name `path`.
fn written_beside(path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
    let mut file = temporary_beside(path)?;
    // Through the file itself: the wrapper's errors name the temporary file.
    let inner = file.as_file_mut();
    let written = inner.write_all(bytes).and_then(|()| inner.sync_all());
    written.map_err(|source| Error::write(path, source))?;
    Ok(file)
}

/// The file that is meant by `path`: a rename would put the new file in the place of a link.
pub(crate) fn behind_links(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The folder of `place`, which `path` means.
fn existing_folder_of<'a>(path: &Path, place: &'a Path) -> Result<&'a Path> {
    let folder = folder_of(place);
    if !folder.exists() {
        let problem = format!("there is no folder {}", folder.display());
        return Err(Error::write(path, io::Error::new(io::ErrorKind::NotFound, problem)));
    }
    Ok(folder)
}

/// A file in the folder of `path` that disappears unless it is renamed.
pub(crate) fn temporary_beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let place = behind_links(path);
    let folder = existing_folder_of(path, &place)?;
    let prefix = temporary_prefix(&place);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        // A temporary file is private by default; a model should be as any new file is.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The whole error names the temporary file, which means nothing to anyone.
    builder.tempfile_in(folder).map_err(|error| Error::write(path, error.kind().into()))
}

/// How the names of a file's temporary files begin.
fn temporary_prefix(place: &Path) -> OsString {
    hidden_name(place, ".char-rnn-")
}

/// The name of a file, hidden and with something after it.
fn hidden_name(place: &Path, suffix: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(suffix);
    name
}

/// Copies the file at `path` to a free name beside it, `NAME.old.EXTENSION` or `NAME.old-2.EXTENSION`
/// and so on, and returns where.
///
/// # Errors
/// [`Error::Read`], or [`Error::Write`] with the place that could not be written.
pub fn copy_beside(path: &Path) -> Result<PathBuf> {
    let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
    for number in 1u32.. {
        let mut name = path.file_stem().unwrap_or_default().to_os_string();
        name.push(if number == 1 { ".old".to_string() } else { format!(".old-{number}") });
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        let copy = path.with_file_name(name);
        let file = written_beside(&copy, &bytes)?;
        match file.persist_noclobber(&copy) {
            Ok(_) => return Ok(copy),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::write(&copy, error.error)),
        }
    }
    unreachable!("a folder does not have as many files");
}

/// The right to write a file, for as long as this lives: nobody else can claim it.
///
/// It is an advisory lock on a side file, `.NAME.lock`, and so dies with the process, however that
/// ends; a side file that was left behind is no claim. Reading needs no claim, since the place
/// holds a whole file at any time.
#[derive(Debug)]
pub struct Claim {
    side: PathBuf,
    _locked: File,
}

impl Claim {
    /// Claims the file at `path`, which need not exist, and removes what a run that was killed
    /// while writing it may have left.
    ///
    /// # Errors
    /// [`Error::InUse`] where it is claimed already; [`Error::Write`] where the folder cannot be
    /// written.
    pub fn new(path: &Path) -> Result<Self> {
        let cannot_write = |source| Error::write(path, source);
        let place = behind_links(path);
        existing_folder_of(path, &place)?;
        let side = place.with_file_name(hidden_name(&place, ".lock"));
        loop {
            let file =
                File::options().create(true).append(true).open(&side).map_err(cannot_write)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::InUse { path: path.to_path_buf() });
                }
                // Where the file system has no locks there are no claims to respect.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(cannot_write(error)),
            }
            // Whoever had it before removes the side file, perhaps after it was opened here: then
            // this lock is on a file that nobody else will find.
            let locked = file.try_clone().and_then(Handle::from_file).map_err(cannot_write)?;
            if Handle::from_path(&side).is_ok_and(|found| found == locked) {
                remove_leftovers(&place);
                return Ok(Self { side, _locked: file });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the lock is let go, so that the next side file is another one.
        let _ = std::fs::remove_file(&self.side);
    }
}

/// Removes the temporary files of a run that was killed. They are nobody's: who writes has the claim.
fn remove_leftovers(place: &Path) {
    let prefix = temporary_prefix(place);
    let is_leftover = |name: &OsStr| name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
    // What cannot be tidied up does no harm.
    let Ok(entries) = std::fs::read_dir(folder_of(place)) else { return };
    for entry in entries.flatten().filter(|entry| is_leftover(&entry.file_name())) {
        let _ = std::fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_claimed_file_cannot_be_claimed_again_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let claim = Claim::new(&one).unwrap();
        let refusal = Claim::new(&one).unwrap_err();
        assert!(matches!(&refusal, Error::InUse { path } if *path == one));
        assert!(refusal.to_string().contains("-o"), "{refusal}");
        Claim::new(&other).unwrap();
        drop(claim);
        Claim::new(&one).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_claimed_with_what_it_stands_for() {
        let folder = tempfile::tempdir().unwrap();
        let (one, link) = (folder.path().join("one"), folder.path().join("link"));
        std::fs::write(&one, "").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let _claim = Claim::new(&link).unwrap();
        assert!(Claim::new(&one).is_err());
    }

    #[test]
    fn what_a_killed_run_left_is_no_claim_and_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        for left in [".one.lock", ".one.char-rnn-aB3x9z", ".two.char-rnn-aB3x9z", "one", ".one"] {
            std::fs::write(folder.path().join(left), "").unwrap();
        }
        drop(Claim::new(&folder.path().join("one")).unwrap());
        assert_eq!(names(folder.path()), [".one", ".two.char-rnn-aB3x9z", "one"]);
    }

    #[test]
    fn of_many_claims_at_once_one_at_a_time_is_granted() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let (holders, granted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Ok(_claim) = Claim::new(&path) {
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
    fn two_spellings_of_a_place_are_one_whether_the_file_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        let (plain, round) = (folder.path().join("one"), folder.path().join("inner/../one"));
        let other = folder.path().join("inner/one");
        for _ in 0..2 {
            assert!(is_same_place(&plain, &round) && !is_same_place(&plain, &other));
            std::fs::write(&plain, "").unwrap();
        }
        assert!(check_writable(&plain).is_ok() && check_writable(folder.path()).is_err());
        assert!(check_writable(&folder.path().join("none/one")).is_err());
        assert_eq!(names(folder.path()), ["inner", "one"]);
    }

    #[test]
    fn a_copy_takes_the_first_free_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.model.safetensors");
        for (contents, expected) in
            [("1", "my.model.old.safetensors"), ("2", "my.model.old-2.safetensors")]
        {
            std::fs::write(&path, contents).unwrap();
            let copy = copy_beside(&path).unwrap();
            assert_eq!(copy, folder.path().join(expected));
            assert_eq!(std::fs::read_to_string(copy).unwrap(), contents);
        }
        assert_eq!(names(folder.path()).len(), 3);
    }
}
