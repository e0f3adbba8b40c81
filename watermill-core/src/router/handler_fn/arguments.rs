//! [`Arguments`]: all arguments of a handler at once.

use crate::{
    Message,
    error::BoxError,
    router::{Extract, ExtractOwned},
};

/// The arguments of a handler: the last implements [`ExtractOwned`], the others [`Extract`].
///
/// `Via` is that of the last one; it is inferred.
pub trait Arguments<S, Via>: Sized {
    /// Reads all of them, in their order.
    fn extract(message: Message, state: &S) -> Result<Self, BoxError>;
}

macro_rules! arguments {
    ($($argument:ident)*; $last:ident) => {
        #[expect(non_snake_case, reason = "a value is named like its type parameter")]
        impl<S, Via, $($argument,)* $last> Arguments<S, Via> for ($($argument,)* $last,)
        where
            $($argument: Extract<S>,)*
            $last: ExtractOwned<S, Via>,
        {
            #[inline]
            fn extract(message: Message, state: &S) -> Result<Self, BoxError> {
                $(let $argument = $argument::extract(&message, state).map_err(Into::into)?;)*
                let $last = $last::extract_owned(message, state).map_err(Into::into)?;
                Ok(($($argument,)* $last,))
            }
        }
    };
}

/// A function without arguments. `Via` is `()` for it, so that the compiler need not guess.
impl<S> Arguments<S, ()> for () {
    fn extract(_message: Message, _state: &S) -> Result<Self, BoxError> {
        Ok(())
    }
}

arguments!(; A);
arguments!(A; B);
arguments!(A B; C);
arguments!(A B C; D);
arguments!(A B C D; E);
arguments!(A B C D E; F);
arguments!(A B C D E F; G);
arguments!(A B C D E F G; H);
