//! Parses values that are written in a file as a text, a number or a table.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer, Visitor, value::MapAccessDeserializer},
};

/// Parses a `T` from a text. A bare number is read as its digits, so that the error can say which
/// unit is missing.
pub(crate) fn from_text<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    deserializer.deserialize_any(Text(expected, PhantomData))
}

struct Text<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Parses a `T` that is written either as one value, an `S`, or as a table, an `M`. Unlike serde's
/// untagged enums this keeps the place and the text of an error within it.
pub(crate) fn from_value_or_table<'de, D, S, M, T>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    S: Deserialize<'de>,
    M: Deserialize<'de>,
    T: From<S> + From<M>,
{
    deserializer.deserialize_any(ValueOrTable(expected, PhantomData::<(S, M, T)>))
}

struct ValueOrTable<S, M, T>(&'static str, PhantomData<(S, M, T)>);

impl<'de, S, M, T> Visitor<'de> for ValueOrTable<S, M, T>
where
    S: Deserialize<'de>,
    M: Deserialize<'de>,
    T: From<S> + From<M>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        S::deserialize(text.into_deserializer()).map(T::from)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        S::deserialize(number.into_deserializer()).map(T::from)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        S::deserialize(number.into_deserializer()).map(T::from)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        S::deserialize(number.into_deserializer()).map(T::from)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map)).map(T::from)
    }
}
