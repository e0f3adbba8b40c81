//! [`Arguments`]: all arguments of a handler at once.

use crate::{
    Message,
    error::BoxError,
    router::{Extract, ExtractOwned, Required},
};

/// The arguments of a handler: the last implements [`ExtractOwned`], the others [`Extract`].
///
/// `Via` is that of the last one; it is inferred.
pub trait Arguments<S, Via>: Sized {
    /// Reads all of them, in their order.
    fn extract(message: Message, state: &S) -> Result<Self, BoxError>;

    /// What they need of layers.
    fn required() -> Vec<Required>;
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

            fn required() -> Vec<Required> {
                [$($argument::required(),)* $last::required()].into_iter().flatten().collect()
            }
        }
    };
}

/// A function without arguments. `Via` is `()` for it, so that the compiler need not guess.
impl<S> Arguments<S, ()> for () {
    fn extract(_message: Message, _state: &S) -> Result<Self, BoxError> {
        Ok(())
    }

    fn required() -> Vec<Required> {
        Vec::new()
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
