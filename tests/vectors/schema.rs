//! The structure of all messages, derived from the types themselves: `docs/schema/`.
//!
//! A type's `Deserialize` asks for its fields one after the other. A deserialiser that always
//! answers with some value, and notes what was asked for, learns the type. The maximum length of a
//! list is in the text that says what it expects. An enum is answered with each of its variants in
//! turn, and a type is deserialised until all variants of all enums in it have been seen.

use std::{any::type_name, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, Error as _, Expected, IntoDeserializer, Visitor},
};

#[path = "bless.rs"]
mod bless;

/// Types by name, each as JSON, and the maximum lengths of messages.
#[derive(Default)]
pub(crate) struct Schema {
    types: BTreeMap<String, String>,
    /// The full name with its module for each short name, since two types of one short name would
    /// be confused.
    full_names: BTreeMap<String, &'static str>,
    variants: BTreeMap<String, Variants>,
    limits: BTreeMap<String, usize>,
}

/// What is known of the variants of an enum.
#[derive(Default)]
struct Variants {
    known: Vec<Option<String>>,
    /// How often a variant was asked for.
    turns: usize,
}

impl Schema {
    /// Adds a message of at most `limit` bytes, and all types that it contains.
    pub(crate) fn add<T: for<'de> Deserialize<'de>>(&mut self, name: &str, limit: usize) {
        loop {
            let mut found = String::new();
            T::deserialize(Asked { schema: self, found: &mut found })
                .unwrap_or_else(|error| panic!("{name} refuses what was made up for it: {error}"));
            if found != quoted(name) {
                self.types.insert(name.to_owned(), found);
            }
            if self.variants.values().all(|it| it.known.iter().all(Option::is_some)) {
                break;
            }
        }
        self.limits.insert(name.to_owned(), limit);
    }

    fn name<T>(&mut self) -> String {
        let (name, full) = (short(type_name::<T>()), type_name::<T>());
        let before = self.full_names.insert(name.clone(), full);
        assert!(before.is_none_or(|before| before == full), "two types are called {name}");
        name
    }

    /// Compares the file at `path` with what was added. [`bless::hold_to`]
    #[track_caller]
    pub(crate) fn hold_to(&self, path: &str) {
        bless::hold_to(path, &self.text());
    }

    fn text(&self) -> String {
        let limits: Vec<_> = self
            .limits
            .iter()
            .map(|(name, limit)| format!("  {}: {limit}", quoted(name)))
            .collect();
        let types: Vec<_> =
            self.types.iter().map(|(name, it)| format!("  {}: {it}", quoted(name))).collect();
        let (limits, types) = (
            limits.join(
                ",
",
            ),
            types.join(
                ",
",
            ),
        );
        format!(
            "{{
\"messages\": {{
{limits}
}},
\"types\": {{
{types}
}}
}}
"
        )
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Fields or variants as JSON, one per line.
fn named<'a>(form: &str, of: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let flat = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = of.map(|(name, it)| format!("    [{}, {}]", quoted(name), flat(it)));
    let lines: Vec<_> = lines.collect();
    format!(
        "{{\"{form}\": [
{}
  ]}}",
        lines.join(
            ",
"
        )
    )
}

/// A type's name without its modules.
fn short(full: &str) -> String {
    let mut name = String::new();
    for part in full.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
        name.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    name
}

/// A deserialiser for one value that is asked for.
struct Asked<'a> {
    schema: &'a mut Schema,
    /// The type of the value, as JSON.
    found: &'a mut String,
}

/// An error: what was asked for is not supported.
#[derive(Debug)]
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $name:literal),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            *self.found = quoted($name);
            // Any number is accepted, except in device ids. A device id of these bytes is valid,
            // too.
            visitor.$visit(2)
        })*
    };
}

macro_rules! unused {
    ($($method:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
            Err(Failure::custom(concat!(stringify!($method), ": not in any message")))
        })*
    };
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Failure;

    numbers!(
        deserialize_u8 visit_u8 "u8",
        deserialize_u16 visit_u16 "u16",
        deserialize_u32 visit_u32 "u32",
        deserialize_u64 visit_u64 "u64"
    );

    unused!(
        deserialize_any,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_bytes,
        deserialize_byte_buf,
        deserialize_unit,
        deserialize_identifier,
        deserialize_ignored_any
    );

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        *self.found = quoted("i8");
        visitor.visit_i8(0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        *self.found = quoted("bool");
        visitor.visit_bool(false)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        *self.found = quoted("string");
        visitor.visit_str("")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let mut inner = String::new();
        let value = visitor.visit_some(Asked { schema: self.schema, found: &mut inner });
        *self.found = format!("{{\"option\": {inner}}}");
        value
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: V,
    ) -> Result<V::Value, Failure> {
        Err(Failure::custom(format_args!("{name}: not in any message")))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let mut inner = String::new();
        let value =
            visitor.visit_newtype_struct(Asked { schema: &mut *self.schema, found: &mut inner });
        self.schema.types.insert(name.to_owned(), inner);
        *self.found = quoted(name);
        value
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let expected = (&visitor as &dyn Expected).to_string();
        let max = expected.strip_prefix("at most ").and_then(|it| it.strip_suffix(" items"));
        let mut items = Fields::new(self.schema, 1);
        let value = visitor.visit_seq(&mut items);
        let item = items.found.join("");
        *self.found = match max {
            Some(max) => format!("{{\"list\": {item}, \"max\": {max}}}"),
            None => format!("{{\"list\": {item}}}"),
        };
        value
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let mut items = Fields::new(self.schema, length);
        let value = visitor.visit_seq(&mut items);
        let bytes: Option<Vec<usize>> = items.found.iter().map(|it| length_in_bytes(it)).collect();
        *self.found = match bytes {
            Some(bytes) if type_name::<V::Value>().starts_with('[') => {
                format!("{{\"bytes\": {}}}", bytes.iter().sum::<usize>())
            }
            _ => format!("{{\"tuple\": [{}]}}", items.found.join(", ")),
        };
        value
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let mut items = Fields::new(self.schema, 2);
        let value = visitor.visit_map(&mut items);
        *self.found = format!("{{\"map\": [{}]}}", items.found.join(", "));
        value
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let name = self.schema.name::<V::Value>();
        let mut items = Fields::new(self.schema, fields.len());
        let value = visitor.visit_seq(&mut items);
        let found = items.named(fields);
        self.schema.types.insert(name.clone(), found);
        *self.found = quoted(&name);
        value
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let name = self.schema.name::<V::Value>();
        let known = self.schema.variants.entry(name.clone()).or_default();
        known.known.resize(variants.len(), None);
        let next = known.known.iter().position(Option::is_none);
        let place = next.unwrap_or(known.turns % variants.len());
        known.turns += 1;
        let mut inner = String::new();
        let choice = Choice { schema: &mut *self.schema, place, found: &mut inner };
        let value = visitor.visit_enum(choice);
        let known = self.schema.variants.entry(name.clone()).or_default();
        known.known[place] = Some(inner);
        let of = known.known.iter().map(|of| of.as_deref().unwrap_or("null"));
        let found = named("enum", variants.iter().copied().zip(of));
        self.schema.types.insert(name.clone(), found);
        *self.found = quoted(&name);
        value
    }

    /// The same as for postcard.
    fn is_human_readable(&self) -> bool {
        false
    }
}

fn length_in_bytes(found: &str) -> Option<usize> {
    if found == quoted("u8") {
        return Some(1);
    }
    found.strip_prefix("{\"bytes\": ")?.strip_suffix('}')?.parse().ok()
}

/// Answers for several values, one after the other.
struct Fields<'a> {
    schema: &'a mut Schema,
    left: usize,
    found: Vec<String>,
}

impl<'a> Fields<'a> {
    fn new(schema: &'a mut Schema, left: usize) -> Self {
        Self { schema, left, found: Vec::new() }
    }

    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let mut found = String::new();
        let value = seed.deserialize(Asked { schema: &mut *self.schema, found: &mut found })?;
        self.found.push(found);
        Ok(Some(value))
    }

    fn named(&self, fields: &[&'static str]) -> String {
        named("struct", fields.iter().copied().zip(self.found.iter().map(String::as_str)))
    }
}

impl<'de> de::SeqAccess<'de> for &mut Fields<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        self.next(seed)
    }
}

impl<'de> de::MapAccess<'de> for &mut Fields<'_> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        self.next(seed)?.ok_or_else(|| Failure::custom("a key without a value"))
    }
}

/// Answers for one variant of an enum.
struct Choice<'a> {
    schema: &'a mut Schema,
    place: usize,
    found: &'a mut String,
}

impl<'de> de::EnumAccess<'de> for Choice<'_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failure> {
        let place = u32::try_from(self.place).expect("no enum has so many variants");
        Ok((seed.deserialize(place.into_deserializer())?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Choice<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        *self.found = "null".to_owned();
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failure> {
        seed.deserialize(Asked { schema: self.schema, found: self.found })
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        Asked { schema: self.schema, found: self.found }.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let mut items = Fields::new(self.schema, fields.len());
        let value = visitor.visit_seq(&mut items);
        *self.found = items.named(fields);
        value
    }
}

/// A variant that occurs only inside another variant is described as well.
#[test]
fn variants_inside_of_variants_are_gone_through() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its form is described; no value is made")]
    enum Inner {
        A,
        B { of: hark_keys::List<u16, 7> },
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its form is described; no value is made")]
    enum Outer {
        First,
        Second(Inner),
    }
    let mut schema = Schema::default();
    schema.add::<Outer>("Outer", 9);
    let flat = |name: &str| schema.types[name].split_whitespace().collect::<String>();
    assert_eq!(flat("Outer"), r#"{"enum":[["First",null],["Second","Inner"]]}"#);
    let b = r#"{"struct":[["of",{"list":"u16","max":7}]]}"#;
    assert_eq!(flat("Inner"), format!(r#"{{"enum":[["A",null],["B",{b}]]}}"#));
}
