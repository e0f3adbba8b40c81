//! The checks that an attribute puts beside a handler function.
//!
//! Each is a call of an empty function of `watermill_core::router::check` with the bound of one part of the
//! handler, and the type of that part as it is written in the source, so that the compiler points there.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Error, FnArg, GenericArgument, GenericParam, ItemFn, PathArguments, Result, ReturnType, Type, parse2,
    spanned::Spanned,
};

use crate::options::Options;

/// More arguments have no implementation in watermill-core.
const ARGUMENTS_MAX: usize = 8;

const GENERIC: &str = "a generic function cannot be checked: its arguments are not known here";

/// What the function handles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Batch,
}

/// The function as it is, and the checks.
pub(crate) fn expand(kind: Kind, options: TokenStream, function: TokenStream) -> TokenStream {
    // The function stays even where the checks cannot be written: without it, one error would become many.
    let checks = parse2::<ItemFn>(function.clone())
        .map_err(|error| Error::new(error.span(), format!("this is written on an `async fn`: {error}")))
        .and_then(|item| checks(kind, &parse2(options)?, &item))
        .unwrap_or_else(Error::into_compile_error);
    quote! { #function #checks }
}

fn checks(kind: Kind, options: &Options, item: &ItemFn) -> Result<TokenStream> {
    let signature = &item.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span(), "a handler is an `async fn`"));
    }
    if let Some(parameter) = signature.generics.params.iter().find(|parameter| !is_lifetime(parameter)) {
        return Err(Error::new(parameter.span(), GENERIC));
    }
    let arguments = arguments(item)?;
    let state = state(options, &arguments)?;
    let taken = match kind {
        Kind::Message => message_arguments(&state, &arguments)?,
        Kind::Batch => batch_arguments(&state, &arguments, item)?,
    };
    let returned = returned(kind, &signature.output);
    let name = &signature.ident;
    let future = quote_spanned! { name.span() => ::watermill_core::router::check::future(#name); };
    let conditions = item.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    Ok(quote! {
        #(#conditions)*
        const _: fn() = || {
            #taken
            #returned
            #future
        };
    })
}

fn is_lifetime(parameter: &GenericParam) -> bool {
    matches!(parameter, GenericParam::Lifetime(_))
}

/// The types of the arguments.
fn arguments(item: &ItemFn) -> Result<Vec<&Type>> {
    let types = item.sig.inputs.iter().map(|input| match input {
        FnArg::Typed(argument) if has_impl(&argument.ty) => Err(Error::new(argument.ty.span(), GENERIC)),
        FnArg::Typed(argument) => Ok(&*argument.ty),
        FnArg::Receiver(receiver) => Err(Error::new(
            receiver.span(),
            "a handler has no `self`: what it needs, it takes from the router's state with `State<T>`",
        )),
    });
    types.collect()
}

/// The router's state: the one that is named, or the one that the function takes with `State<T>`.
fn state(options: &Options, arguments: &[&Type]) -> Result<Type> {
    if let Some(state) = &options.state {
        return Ok(state.clone());
    }
    let mut states = arguments.iter().filter_map(|argument| state_of(argument));
    let Some(state) = states.next() else { return Ok(syn::parse_quote!(())) };
    match states.find(|other| written(other) != written(state)) {
        None => Ok(state.clone()),
        Some(other) => Err(Error::new(
            other.span(),
            "these are parts of a larger state; say which: `#[debug_handler(state = TheStateOfTheRouter)]`",
        )),
    }
}

/// The `T` of `State<T>`, whatever path leads to it.
fn state_of(argument: &Type) -> Option<&Type> {
    let Type::Path(path) = argument else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(generics) = &last.arguments else { return None };
    match generics.args.first()? {
        GenericArgument::Type(state) if last.ident == "State" => Some(state),
        _ => None,
    }
}

fn message_arguments(state: &Type, arguments: &[&Type]) -> Result<TokenStream> {
    if let Some(extra) = arguments.get(ARGUMENTS_MAX) {
        let message = format!(
            "a handler has at most {ARGUMENTS_MAX} arguments; take several of them together with an extractor of yours"
        );
        return Err(Error::new(extra.span(), message));
    }
    let Some((last, others)) = arguments.split_last() else { return Ok(TokenStream::new()) };
    let others = others.iter().map(|argument| {
        quote_spanned! { argument.span() => ::watermill_core::router::check::argument::<#state, #argument>(); }
    });
    let last = quote_spanned! { last.span() =>
        ::watermill_core::router::check::last_argument::<#state, #last, _>();
    };
    Ok(quote! { #(#others)* #last })
}

fn batch_arguments(state: &Type, arguments: &[&Type], item: &ItemFn) -> Result<TokenStream> {
    let [batch, others @ ..] = arguments else {
        return Err(Error::new(
            item.sig.ident.span(),
            "a batch handler has a `Vec<T>` as its first argument",
        ));
    };
    if let Some(extra) = others.get(1) {
        return Err(Error::new(extra.span(), "a batch handler has a `Vec<T>` and at most a `State<S>`"));
    }
    let batch = quote_spanned! { batch.span() =>
        ::watermill_core::router::check::batch::<#state, #batch, _>();
    };
    let shared = others.iter().map(|shared| {
        quote_spanned! { shared.span() => ::watermill_core::router::check::batch_state::<#state, #shared>(); }
    });
    Ok(quote! { #batch #(#shared)* })
}

fn returned(kind: Kind, output: &ReturnType) -> TokenStream {
    let ReturnType::Type(_, output) = output else { return TokenStream::new() };
    // It has no name; its bounds say what it is.
    if has_impl(output) {
        return TokenStream::new();
    }
    let check = format_ident!(
        "{}",
        match kind {
            Kind::Message => "returned",
            Kind::Batch => "batch_returned",
        }
    );
    quote_spanned! { output.span() => ::watermill_core::router::check::#check::<#output>(); }
}

/// Whether an `impl Trait` is in the type.
fn has_impl(ty: &Type) -> bool {
    fn any(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Group(group) => any(group.stream()),
            TokenTree::Ident(ident) => ident == "impl",
            _ => false,
        })
    }
    any(ty.to_token_stream())
}

/// Two types are the same here when they are written alike.
fn written(ty: &Type) -> String {
    ty.to_token_stream().to_string()
}
