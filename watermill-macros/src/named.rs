//! The derive of `Named`: what a type of commands or events is called, checked where Go is to read it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Ident, LitInt, LitStr, Member, Result, Token,
    parse::{Parse, ParseStream},
    parse2,
    punctuated::Punctuated,
    spanned::Spanned,
};

/// The implementation of `Named`.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    parse2(input).and_then(|input| implementation(&input)).unwrap_or_else(Error::into_compile_error)
}

fn implementation(input: &DeriveInput) -> Result<TokenStream> {
    let options = Options::of(&input.attrs)?;
    let ident = &input.ident;
    if let (None, Some(parameter)) = (&options.name, input.generics.type_params().next()) {
        return Err(Error::new(
            parameter.span(),
            format!(
                "a generic type needs a name of its own, which is that of one of its types: `#[named(\"{ident}\")]`"
            ),
        ));
    }
    let name = options.name.unwrap_or_else(|| LitStr::new(&ident.to_string(), ident.span()));
    let version = options.version.map(|version| quote! { const VERSION: u32 = #version; });
    let key = match options.key {
        Some(key) => {
            has_field(input, &key)?;
            Some(quote! {
                fn key(&self) -> ::core::option::Option<::watermill_core::cqrs::types::Bytes> {
                    ::core::option::Option::Some(::std::string::ToString::to_string(&self.#key).into())
                }
            })
        }
        None => None,
    };
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::watermill_core::cqrs::Named for #ident #arguments #conditions {
            const NAME: &'static str = #name;
            #version
            #key
        }
    })
}

/// What stands in `#[named(..)]`.
#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    version: Option<LitInt>,
    key: Option<Member>,
}

enum Item {
    Name(LitStr),
    Version(LitInt),
    Key(Member),
}

impl Options {
    fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut options = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("named")) {
            for item in attribute.parse_args_with(Punctuated::<Item, Token![,]>::parse_terminated)? {
                let twice = match item {
                    Item::Name(name) => options.name.replace(name).map(|name| name.span()),
                    Item::Version(version) => options.version.replace(version).map(|it| it.span()),
                    Item::Key(key) => options.key.replace(key).map(|key| key.span()),
                };
                if let Some(span) = twice {
                    return Err(Error::new(span, "this is said twice"));
                }
            }
        }
        Ok(options)
    }
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(LitStr) {
            let name: LitStr = input.parse()?;
            return match name.value().is_empty() {
                true => Err(Error::new(name.span(), "a name has at least one letter")),
                false => Ok(Self::Name(name)),
            };
        }
        let option: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        match option.to_string().as_str() {
            "go" => input.parse().and_then(go_name).map(Self::Name),
            "version" => input.parse().and_then(version).map(Self::Version),
            "key" => input.parse().map(Self::Key),
            _ => Err(Error::new(
                option.span(),
                "the options are: a name, `go = \"package.Type\"`, `version = 2`, `key = a_field`",
            )),
        }
    }
}

/// What Go's Watermill calls a type: the name of its package, a dot, and that of the type.
fn go_name(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    let faulty = |why: &str| {
        Err(Error::new(
            name.span(),
            format!("Go calls a type `package.Type`, and {why}; a name of your own is `#[named(\"..\")]`"),
        ))
    };
    let Some((package, of_type)) = text.split_once('.') else {
        return faulty("this has no dot");
    };
    if of_type.contains('.') {
        return faulty("this has two dots: not the path of the package, but its last part");
    }
    if !is_identifier(package) {
        return faulty("what stands before the dot is no name of a package");
    }
    if !is_identifier(of_type) {
        return faulty("what stands behind the dot is no name of a type");
    }
    Ok(name)
}

/// A letter or an underscore, and then digits too: what Go takes for a name.
fn is_identifier(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

fn version(version: LitInt) -> Result<LitInt> {
    match version.base10_parse::<u32>() {
        Ok(1..) => Ok(version),
        _ => Err(Error::new(version.span(), "a version is a whole number, from 1 on")),
    }
}

/// Said here, with the name of the field: the compiler would point into what is generated.
fn has_field(input: &DeriveInput, key: &Member) -> Result<()> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(key.span(), "the key of an enum is found by implementing `Named` by hand"));
    };
    if data.fields.members().any(|member| member == *key) {
        return Ok(());
    }
    Err(Error::new(key.span(), format!("`{}` has no such field", input.ident)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(input: TokenStream) -> String {
        implementation(&parse2(input).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_name_that_go_cannot_write_is_refused() {
        for (name, why) in [
            ("BookRoom", "no dot"),
            ("github.com/shop/hotel.BookRoom", "two dots"),
            ("my-hotel.BookRoom", "package"),
            ("hotel.", "name of a type"),
            ("hotel.Book Room", "name of a type"),
        ] {
            let error = error_of(quote! { #[named(go = #name)] struct BookRoom; });
            assert!(error.contains(why), "{name}: {error}");
        }
        let input = parse2(quote! { #[named(go = "hotel.BookRoom")] struct Booking; }).unwrap();
        assert!(implementation(&input).unwrap().to_string().contains("\"hotel.BookRoom\""));
    }

    #[test]
    fn what_is_said_of_a_type_is_understood_or_refused() {
        for (input, why) in [
            (quote! { #[named(key = guest)] struct BookRoom { room: u32 } }, "no such field"),
            (quote! { #[named(key = guest)] enum Booking { Room } }, "an enum"),
            (quote! { #[named(version = 0)] struct BookRoom; }, "from 1 on"),
            (quote! { #[named("")] struct BookRoom; }, "at least one letter"),
            (quote! { #[named("a", "b")] struct BookRoom; }, "twice"),
            (quote! { #[named(color = 1)] struct BookRoom; }, "the options are"),
            (quote! { struct Changed<T>(T); }, "a name of its own"),
        ] {
            let error = error_of(input);
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
