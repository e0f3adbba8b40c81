//! Types between the lines, as in [`router::types`](crate::router::types): you read their names in the compiler's messages.

pub use bytes::Bytes;

pub use super::{
    dispatch::{Dispatched, GroupService},
    function::{PayloadArguments, PayloadFuture},
    group::MakeGroup,
    handling::{Handling, MakePayload, PayloadService},
};
