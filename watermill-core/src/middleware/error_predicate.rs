//! [`ErrorPredicate`]: a question about an error, shared by the layers that ask one.

use std::{error::Error, fmt, sync::Arc};

type Matches = dyn Fn(&(dyn Error + 'static)) -> bool + Send + Sync;

#[derive(Clone)]
pub(crate) struct ErrorPredicate(Arc<Matches>);

impl ErrorPredicate {
    pub(crate) fn new(matches: impl Fn(&(dyn Error + 'static)) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(matches))
    }

    pub(crate) fn matches(&self, error: &(dyn Error + 'static)) -> bool {
        (self.0)(error)
    }
}

impl fmt::Debug for ErrorPredicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErrorPredicate")
    }
}
