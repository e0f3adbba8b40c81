//! [`FileStore`]: payloads in the files of a folder.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Claim, ClaimError, ClaimErrorKind, ClaimStore};
use crate::error::BoxError;

/// Keeps payloads as files of one folder, which is made with the first: on a disk that publishers and subscribers share.
///
/// A file is complete and on the disk before it has its name. What was left of a process that ended in the middle of
/// writing goes with what expires. Clones are the same store.
///
/// While the folder is not there, because its disk is not mounted for instance, payloads are
/// [unavailable](ClaimErrorKind::Unavailable) and not lost. So let it be a folder below the one where the disk is mounted.
#[derive(Clone, Debug)]
pub struct FileStore {
    folder: Arc<Path>,
}

/// The ending of files that are being written.
const UNFINISHED: &str = "unfinished";

impl FileStore {
    /// A store in `folder`. Nothing else should be in it.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into().into() }
    }

    async fn run<T: Send + 'static>(
        &self,
        claim: &Claim,
        work: impl FnOnce(&Path, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ClaimError> {
        let (folder, name) = (self.folder.clone(), claim.to_string());
        let worked =
            spawn_blocking(move || work(&folder, &name)).await.unwrap_or_else(|error| Err(error.into()));
        worked.map_err(|error| failure(claim, error))
    }
}

#[async_trait]
impl ClaimStore for FileStore {
    async fn put(&self, claim: &Claim, payload: Bytes) -> Result<(), ClaimError> {
        self.run(claim, move |folder, name| write(folder, name, &payload)).await
    }

    async fn get(&self, claim: &Claim) -> Result<Bytes, ClaimError> {
        self.run(claim, read).await
    }

    async fn remove_expired(&self, now: SystemTime) -> Result<u64, ClaimError> {
        let nobodys = Claim::until(now);
        self.run(&nobodys, move |folder, _| remove_expired(folder, now)).await
    }
}

fn write(folder: &Path, name: &str, payload: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(format!("{name}.{UNFINISHED}"));
    let written = fs::File::create(&unfinished).and_then(|mut file| {
        file.write_all(payload)?;
        file.sync_all()?;
        fs::rename(&unfinished, folder.join(name))?;
        // The name is on the disk with the folder.
        fs::File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // It would go when it expires.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn read(folder: &Path, name: &str) -> io::Result<Bytes> {
    match fs::read(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_dir() => {
            // A disk that is not mounted, or another path, tells nothing of the payload, whose message must not be given up.
            Err(io::Error::other(format!("the folder {} is not there", folder.display())))
        }
        payload => payload.map(Bytes::from),
    }
}

fn remove_expired(folder: &Path, now: SystemTime) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let (mut removed, mut failed) = (0, None);
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let claim = Claim::parse(name.strip_suffix(&format!(".{UNFINISHED}")).unwrap_or(name));
        if claim.is_some_and(|claim| claim.expires() <= now) {
            match fs::remove_file(folder.join(name)) {
                // Somebody else was quicker.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failed = failed.or(Some(error)),
                Ok(()) => removed += 1,
            }
        }
    }
    failed.map_or(Ok(removed), Err)
}

fn failure(claim: &Claim, error: io::Error) -> ClaimError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ClaimErrorKind::Lost,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ClaimErrorKind::Refused,
        _ => ClaimErrorKind::Unavailable,
    };
    ClaimError::new(kind, claim).with_source(BoxError::from(error))
}
