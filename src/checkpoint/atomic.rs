//! Files that are written completely or not at all.
//!
//! A file is written beside its place under a temporary name, synced and renamed, so that the place
//! holds the old file or the new one, whenever the program or the computer stops.

use crate::error::{Error, Result};
use std::ffi::OsString;
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

/// An empty file in the folder of `path`, removed unless it is renamed.
pub(crate) fn temporary_beside(path: &Path) -> Result<NamedTempFile> {
    let place = behind_links(path);
    let folder = existing_folder_of(path, &place)?;
    let prefix = temporary_prefix(&place);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        // A temporary file is private by default; a model gets the permissions of any new file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The whole error names the temporary file.
    builder.tempfile_in(folder).map_err(|error| Error::write(path, error.kind().into()))
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
    if !folder.exists() {
        let problem = format!("there is no folder {}", folder.display());
        return Err(Error::write(path, io::Error::new(io::ErrorKind::NotFound, problem)));
    }
    Ok(folder)
}

/// The beginning of the names of the temporary files of the file at `place`.
pub(crate) fn temporary_prefix(place: &Path) -> OsString {
    hidden_name(place, ".char-rnn-")
}

/// The name of the file at `place`, hidden, with a `suffix`.
pub(crate) fn hidden_name(place: &Path, suffix: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(suffix);
    name
}
