#![doc = include_str!("../README.md")]
#![doc = ""]
//! The examples themselves are this package's binaries; this library compiles those of the workspace's
//! README and of the guide.

/// Has the Rust blocks of each page compiled as doctests.
#[cfg(doctest)]
macro_rules! guide {
    ($($page:ident: $file:literal,)*) => {$(
        #[doc = include_str!(concat!("../docs/", $file))]
        mod $page {}
    )*};
}

#[cfg(doctest)]
guide! {
    choosing_a_backend: "choosing-a-backend.md",
    delivery_and_order: "delivery-and-order.md",
    outbox: "outbox.md",
    inbox: "inbox.md",
    failure_policies: "failure-policies.md",
    commands_and_events: "commands-and-events.md",
    writing_a_layer: "writing-a-layer.md",
    writing_a_backend: "writing-a-backend.md",
    operating: "operating.md",
    coming_from_go: "coming-from-go.md",
}
