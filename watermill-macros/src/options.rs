//! What may stand in the parentheses of an attribute.

use syn::{
    Ident, Result, Token, Type,
    parse::{Parse, ParseStream},
};

/// `state = App`, or nothing.
pub(crate) struct Options {
    pub(crate) state: Option<Type>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Ok(Self { state: None });
        }
        let name: Ident = input.parse()?;
        if name != "state" {
            return Err(syn::Error::new(
                name.span(),
                "the one option there is: `state = TheStateOfTheRouter`",
            ));
        }
        input.parse::<Token![=]>()?;
        let state = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        Ok(Self { state: Some(state) })
    }
}
