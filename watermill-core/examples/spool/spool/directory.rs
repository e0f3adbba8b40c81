//! [`Directory`]: the files of one topic. Everything here blocks.
//!
//! ```text
//! <topic>/tmp/<order>                       being written
//! <topic>/new/<order>.<attempts>            for anybody, once its time of modification has come
//! <topic>/claimed/<order>.<attempts>.<owner>  somebody's, until its time of modification has come
//! ```

use std::{
    borrow::Cow,
    collections::VecDeque,
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use uuid::Uuid;

/// A topic. Clones share what they have listed.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Names in `new` that were there at the last look.
    listed: Arc<Mutex<VecDeque<String>>>,
}

/// A message that is claimed: the place of it in the order, and how often it was claimed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    pub(super) order: Uuid,
    pub(super) attempt: u32,
}

/// What a claim has found.
pub(super) struct Claimed {
    pub(super) claim: Claim,
    pub(super) bytes: Vec<u8>,
}

impl Directory {
    /// The directory of a topic, made if there is none; an error for a name that cannot be one.
    pub(super) fn open(root: &Path, topic: &str) -> io::Result<Self> {
        let is_name = |it: char| it.is_ascii_alphanumeric() || "_-.".contains(it);
        if topic.is_empty() || topic.starts_with('.') || topic.len() > 200 || !topic.chars().all(is_name) {
            return Err(io::Error::new(
                ErrorKind::InvalidFilename,
                format!("{topic:?} is no name of a directory"),
            ));
        }
        let path = root.join(topic);
        for part in ["tmp", "new", "claimed"] {
            fs::create_dir_all(path.join(part))?;
        }
        Ok(Self { path, listed: Arc::default() })
    }

    pub(super) fn topic(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }

    /// Puts a message behind all others: under its name it is whole or not there.
    pub(super) fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let order = Uuid::now_v7();
        let temporary = self.path.join("tmp").join(order.simple().to_string());
        fs::write(&temporary, bytes)?;
        fs::rename(temporary, self.free(order, 0))
    }

    /// Makes up to `limit` messages ours, the oldest ones first.
    pub(super) fn claim(&self, owner: &str, limit: usize, lease: Duration) -> io::Result<Vec<Claimed>> {
        let mut claimed = Vec::new();
        let mut has_looked = false;
        while claimed.len() < limit {
            let next = self.listed.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(name) => claimed.extend(self.claim_one(owner, &name, lease)?),
                None if has_looked => break,
                None => {
                    has_looked = true;
                    self.take_back_expired()?;
                    let names = names(&self.path.join("new"))?;
                    *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = names.into();
                }
            }
        }
        Ok(claimed)
    }

    fn claim_one(&self, owner: &str, name: &str, lease: Duration) -> io::Result<Option<Claimed>> {
        let Some(Claim { order, attempt }) = parse(name) else { return Ok(None) };
        let claim = Claim { order, attempt: attempt + 1 };
        let (new, mine) = (self.free(order, attempt), self.claimed(&claim, owner));
        let claimed = (|| {
            if fs::metadata(&new)?.modified()? > SystemTime::now() {
                return Ok(None);
            }
            // Before it is ours, so that it never looks expired.
            touch(&new, SystemTime::now() + lease)?;
            fs::rename(&new, &mine)?;
            Ok(Some(Claimed { claim, bytes: fs::read(&mine)? }))
        })();
        unless_gone(claimed).map(Option::flatten)
    }

    /// What others have claimed and not extended is for anybody.
    fn take_back_expired(&self) -> io::Result<()> {
        let claimed = self.path.join("claimed");
        for name in names(&claimed)? {
            let path = claimed.join(&name);
            let Some(modified) = unless_gone(fs::metadata(&path).and_then(|it| it.modified()))? else {
                continue;
            };
            if let Some(Claim { order, attempt }) = parse(&name).filter(|_| modified < SystemTime::now()) {
                unless_gone(fs::rename(path, self.free(order, attempt)))?;
            }
        }
        Ok(())
    }

    /// Keeps a claim for another lease; false when it is not ours any more.
    pub(super) fn extend(&self, owner: &str, claim: &Claim, lease: Duration) -> io::Result<bool> {
        Ok(unless_gone(touch(&self.claimed(claim, owner), SystemTime::now() + lease))?.is_some())
    }

    /// Deletes a message; false when it is not ours any more.
    pub(super) fn finish(&self, owner: &str, claim: &Claim) -> io::Result<bool> {
        Ok(unless_gone(fs::remove_file(self.claimed(claim, owner)))?.is_some())
    }

    /// Leaves a message to anybody after a delay; false when it is not ours any more. Untried, it counts no
    /// attempt.
    pub(super) fn release(
        &self,
        owner: &str,
        claim: &Claim,
        delay: Duration,
        tried: bool,
    ) -> io::Result<bool> {
        let mine = self.claimed(claim, owner);
        let attempts = if tried { claim.attempt } else { claim.attempt - 1 };
        let due = SystemTime::now().checked_add(delay).unwrap_or_else(SystemTime::now);
        let released = touch(&mine, due).and_then(|()| fs::rename(&mine, self.free(claim.order, attempts)));
        Ok(unless_gone(released)?.is_some())
    }

    fn free(&self, order: Uuid, attempts: u32) -> PathBuf {
        self.path.join("new").join(format!("{}.{attempts}", order.simple()))
    }

    fn claimed(&self, claim: &Claim, owner: &str) -> PathBuf {
        let Claim { order, attempt } = claim;
        self.path.join("claimed").join(format!("{}.{attempt}.{owner}", order.simple()))
    }
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn parse(name: &str) -> Option<Claim> {
    let mut parts = name.split('.');
    Some(Claim { order: parts.next()?.parse().ok()?, attempt: parts.next()?.parse().ok()? })
}

fn touch(path: &Path, at: SystemTime) -> io::Result<()> {
    File::options().append(true).open(path)?.set_modified(at)
}

/// Somebody else was faster: that is no error.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
