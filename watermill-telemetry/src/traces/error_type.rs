//! The attribute `error.type`: why something has failed, in one of few words.

use std::error::Error;

use watermill_core::{
    error::{Panicked, PublishError, find},
    middleware,
    router::JsonRejection,
};

/// The word for an error; that of the conventions for everything else.
pub(super) fn error_type(error: &(dyn Error + 'static)) -> &'static str {
    if let Some(error) = find::<PublishError>(error) {
        return error.kind().as_str();
    }
    if find::<Panicked>(error).is_some() {
        "panic"
    } else if find::<middleware::Elapsed>(error).is_some()
        || find::<tower::timeout::error::Elapsed>(error).is_some()
        || find::<tokio::time::error::Elapsed>(error).is_some()
    {
        "timeout"
    } else if find::<JsonRejection>(error).is_some() {
        "decode"
    } else {
        "_OTHER"
    }
}

#[cfg(test)]
mod tests {
    use watermill_core::error::{Permanent, PublishErrorKind};

    use super::*;

    #[test]
    fn an_error_is_known_behind_those_that_wrap_it() {
        let wrapped = Permanent::new(PublishError::new(PublishErrorKind::Refused, "t"));
        assert_eq!(error_type(&wrapped), "refused");
        assert_eq!(error_type(&tower::timeout::error::Elapsed::new()), "timeout");
        assert_eq!(error_type(&std::fmt::Error), "_OTHER");
    }
}
