//! Files that are written completely or not at all.
//!
//! A file is written beside its place under a temporary name, synced and renamed, so that the place
//! holds the old file or the new one, whenever the program or the computer stops.

use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Replaces the file at `path` by one of these `bytes`.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = written_beside(path, bytes)?;
    let place = behind_links(path);
    file.persist(&place).map_err(|error| Error::write(path, error.error))?;
    // The rename is durable once the folder is synced, which not every system can do.
    if let Ok(folder) = File::open(folder_of(&place)) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// A synced file of these `bytes` in the folder of `path`, removed unless it is renamed.
pub(crate) fn written_beside(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let mut file = temporary_beside(path)?;
    // Through the file itself: the wrapper's errors name the temporary file.
    let inner = file.as_file_mut();
    let written = inner.write_all(bytes).and_then(|()| inner.sync_all());
    written.map_err(|source| Error::write(path, source))?;
    Ok(file)
}

/// An empty file in the folder of `path`, removed unless it is renamed. It has the permissions of the
/// file at `path`, or those of any new file. Files that killed processes have left are removed.
pub(crate) fn temporary_beside(path: &Path) -> Result<NamedTempFile> {
    let place = behind_links(path);
    let folder = existing_folder_of(path, &place)?;
    let old = place.metadata().ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(Error::write(path, io::Error::other("it is not a file")));
    }
    let prefix = hidden_name(&place, ".char-rnn-");
    remove_leftovers(folder, &prefix);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        // A temporary file is private by default. At no time has it more permissions than the old.
        use std::os::unix::fs::PermissionsExt;
        let mode = old.as_ref().map_or(0o666, |old| old.permissions().mode() & 0o777);
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    // The whole error names the temporary file.
    let cannot_write = |error: io::Error| Error::write(path, error.kind().into());
    let file = builder.tempfile_in(folder).map_err(cannot_write)?;
    #[cfg(unix)]
    if let Some(old) = old {
        // The umask may have taken some away.
        file.as_file().set_permissions(old.permissions()).map_err(cannot_write)?;
    }
    // Marks it as in use; not every file system has locks.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Removes the temporary files that no process has locked.
fn remove_leftovers(folder: &Path, prefix: &OsStr) {
    let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
    // A file that cannot be removed does no harm.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = || entry.file_type().is_ok_and(|kind| kind.is_file());
        let is_unused = || File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_ours(&entry.file_name()) && is_file() && is_unused() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The file that `path` leads to: a rename would replace a link.
pub(crate) fn behind_links(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The folder of `place`, which `path` leads to.
pub(crate) fn existing_folder_of<'a>(path: &Path, place: &'a Path) -> Result<&'a Path> {
    let folder = folder_of(place);
    let problem = if !folder.exists() {
        format!("there is no folder {}", folder.display())
    } else if place.is_symlink() {
        // A rename would replace the link.
        "it is a broken link".to_string()
    } else {
        return Ok(folder);
    };
    Err(Error::write(path, io::Error::new(io::ErrorKind::NotFound, problem)))
}

/// The name of the file at `place`, hidden, with a `suffix`.
pub(crate) fn hidden_name(place: &Path, suffix: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(suffix);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn leftovers_of_a_killed_process_are_removed_and_files_in_use_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), ".two.char-rnn-aB3x9z");
        for left in [".one.char-rnn-aB3x9z", ".one.char-rnn-cD4y0w", other, ".one"] {
            std::fs::write(folder.path().join(left), "").unwrap();
        }
        let in_use = temporary_beside(&one).unwrap();
        write_atomically(&one, b"new").unwrap();
        assert!(in_use.path().exists());
        drop(in_use);
        assert_eq!(names(folder.path()), [".one", other, "one"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_rewritten_file_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        write_atomically(&path, b"new").unwrap();
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        let plain = File::create(folder.path().join("plain")).unwrap().metadata().unwrap();
        assert_eq!(mode(), plain.permissions().mode() & 0o777);
        for kept in [mode(), 0o600, 0o666, 0o440] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(kept)).unwrap();
            write_atomically(&path, b"newer").unwrap();
            assert_eq!(mode(), kept);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_one_and_a_broken_one_and_what_is_no_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (link, nowhere) = (folder.path().join("link"), folder.path().join("nowhere"));
        std::os::unix::fs::symlink(&nowhere, &link).unwrap();
        for (path, problem) in [(&*link, "broken link"), ("/dev/null".as_ref(), "not a file")] {
            let error = write_atomically(path, b"new").unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(link.is_symlink() && !nowhere.exists());
        std::fs::write(&nowhere, "old").unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(link.is_symlink() && std::fs::read(nowhere).unwrap() == b"new");
    }
}
