//! [`Function`]: what can be called, whatever its arguments.

/// A function or closure of up to eight arguments, whose types are the tuple `Args`.
///
/// The compiler finds the arguments by the number of them and by nothing else. What they and the
/// returned value must be is asked afterwards, one bound at a time, so that an error names the one
/// that does not hold. Were it asked here, the compiler would only say that no number of arguments fits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function with up to eight arguments",
    label = "not a handler",
    note = "a handler is an `async fn`, or a closure that returns a future; what handlers share belongs into the router's state"
)]
pub trait Function<Args> {
    /// What it returns: for a handler, a future.
    type Returned;

    /// Calls it.
    fn call(&self, args: Args) -> Self::Returned;
}

macro_rules! function {
    ($($argument:ident)*) => {
        #[diagnostic::do_not_recommend]
        #[expect(non_snake_case, reason = "a value is named like its type parameter")]
        impl<Func, Returned, $($argument,)*> Function<($($argument,)*)> for Func
        where
            Func: Fn($($argument,)*) -> Returned,
        {
            type Returned = Returned;

            fn call(&self, ($($argument,)*): ($($argument,)*)) -> Returned {
                self($($argument,)*)
            }
        }
    };
}

function!(A);
function!(A B);
function!(A B C);
function!(A B C D);
function!(A B C D E);
function!(A B C D E F);
function!(A B C D E F G);
function!(A B C D E F G H);

#[diagnostic::do_not_recommend]
impl<Func, Returned> Function<()> for Func
where
    Func: Fn() -> Returned,
{
    type Returned = Returned;

    fn call(&self, (): ()) -> Returned {
        self()
    }
}
