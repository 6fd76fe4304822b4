//! The shape of a type, asked of its own `Deserialize`: which keys it has, which values they take.
//!
//! So the keys that a file may hold are written once, in the types of [`crate::sections`].

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::sections::TEXT_OR_TEXTS;

/// What a value in a file may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// A mapping with these keys.
    Struct(Vec<Field>),
    /// A mapping with any keys.
    Map(Box<Shape>),
    /// A list of any length.
    List(Box<Shape>),
    /// A list of a fixed length.
    Tuple(usize, Box<Shape>),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The inner shape, or null.
    Optional(Box<Shape>),
    /// A whole number from 0 to the bound.
    Whole(u64),
    /// A number.
    Number,
    /// true or false.
    Flag,
    /// Text.
    Text,
    /// Text, or a list of texts.
    TextOrTexts,
    /// Not known here: left to `Deserialize`.
    Any,
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// The key as the file has it.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) shape: Shape,
    /// Whether it must be there.
    pub(crate) required: bool,
}

impl Shape {
    /// The shape of `T`.
    pub(crate) fn of<'de, T: Deserialize<'de>>() -> Self {
        let mut shape = Self::Any;
        if T::deserialize(Probe { shape: &mut shape, omit: None }).is_ok() {
            let known = shape.clone();
            mark_required::<T>(&known, &mut Vec::new(), &mut shape);
        }
        shape
    }

    /// The shape with `Optional` taken off.
    pub(crate) fn inner(&self) -> &Self {
        match self {
            Self::Optional(inner) => inner.inner(),
            other => other,
        }
    }

    /// The keys of the nearest mapping below lists and options; none where there is no such mapping.
    pub(crate) fn fields(&self) -> &[Field] {
        match self {
            Self::Struct(fields) => fields,
            Self::Optional(inner) | Self::List(inner) | Self::Tuple(_, inner) => inner.fields(),
            _ => &[],
        }
    }

    fn fields_mut(&mut self) -> &mut [Field] {
        match self {
            Self::Struct(fields) => fields,
            Self::Optional(inner) | Self::List(inner) | Self::Tuple(_, inner) => inner.fields_mut(),
            _ => &mut [],
        }
    }
}

/// A field is required if `T` cannot be made without it.
fn mark_required<'de, T: Deserialize<'de>>(known: &Shape, path: &mut Vec<&'static str>, marked: &mut Shape) {
    for (field, out) in known.fields().iter().zip(marked.fields_mut()) {
        path.push(field.name);
        out.required = T::deserialize(Probe { shape: &mut Shape::Any, omit: Some(path) }).is_err();
        mark_required::<T>(&field.shape, path, &mut out.shape);
        path.pop();
    }
}

/// Answers every question of a `Deserialize` with the plainest value, and notes what was asked.
struct Probe<'a> {
    shape: &'a mut Shape,
    /// The path of a field to leave out, relative to here.
    omit: Option<&'a [&'static str]>,
}

type Refusal = de::value::Error;

macro_rules! answer {
    ($($ask:ident => $shape:expr, $visit:ident($value:expr);)*) => {$(
        fn $ask<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
            *self.shape = $shape;
            visitor.$visit($value)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Refusal;

    answer! {
        deserialize_bool => Shape::Flag, visit_bool(false);
        deserialize_u8 => Shape::Whole(u8::MAX.into()), visit_u8(0);
        deserialize_u16 => Shape::Whole(u16::MAX.into()), visit_u16(0);
        deserialize_u32 => Shape::Whole(u32::MAX.into()), visit_u32(0);
        deserialize_u64 => Shape::Whole(u64::MAX), visit_u64(0);
        deserialize_f32 => Shape::Number, visit_f32(0.0);
        deserialize_f64 => Shape::Number, visit_f64(0.0);
        deserialize_str => Shape::Text, visit_str("");
        deserialize_string => Shape::Text, visit_str("");
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let mut inner = Shape::Any;
        let made = visitor.visit_some(Probe { shape: &mut inner, omit: self.omit });
        *self.shape = Shape::Optional(Box::new(inner));
        made
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        if name == TEXT_OR_TEXTS {
            *self.shape = Shape::TextOrTexts;
            return visitor.visit_str("");
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let mut inner = Shape::Any;
        let made = visitor.visit_seq(Elements { left: 1, shape: &mut inner, omit: self.omit });
        *self.shape = Shape::List(Box::new(inner));
        made
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refusal> {
        let mut inner = Shape::Any;
        let made = visitor.visit_seq(Elements { left: len, shape: &mut inner, omit: self.omit });
        *self.shape = Shape::Tuple(len, Box::new(inner));
        made
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let mut fields = Vec::new();
        let made = visitor.visit_map(Fields { names: &[""], next: 0, fields: &mut fields, omit: self.omit });
        *self.shape = Shape::Map(Box::new(fields.pop().map_or(Shape::Any, |field| field.shape)));
        made
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let mut fields = Vec::new();
        let made = visitor.visit_map(Fields { names, next: 0, fields: &mut fields, omit: self.omit });
        *self.shape = Shape::Struct(fields);
        made
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        *self.shape = Shape::OneOf(variants);
        visitor.visit_enum(Variant(variants.first().copied().unwrap_or_default()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
        Err(de::Error::custom("a type that the shape of settings does not know"))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

struct Elements<'a> {
    left: usize,
    shape: &'a mut Shape,
    omit: Option<&'a [&'static str]>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refusal> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Probe { shape: self.shape, omit: self.omit }).map(Some)
    }
}

struct Fields<'a> {
    names: &'static [&'static str],
    next: usize,
    fields: &'a mut Vec<Field>,
    omit: Option<&'a [&'static str]>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Refusal;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refusal> {
        if let (Some([last]), Some(name)) = (self.omit, self.names.get(self.next))
            && last == name
        {
            self.next += 1;
        }
        let Some(name) = self.names.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Refusal> = (*name).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let name = self.names[self.next];
        self.next += 1;
        let omit = self.omit.and_then(<[_]>::split_first).filter(|(first, _)| **first == name);
        let mut shape = Shape::Any;
        let made = seed.deserialize(Probe {
            shape: &mut shape,
            omit: omit.map(|(_, rest)| rest).filter(|r| !r.is_empty()),
        });
        self.fields.push(Field { name, shape, required: false });
        made
    }
}

struct Variant(&'static str);

impl<'de> EnumAccess<'de> for Variant {
    type Error = Refusal;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refusal> {
        let name: StrDeserializer<'_, Refusal> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Refusal> {
        Err(de::Error::custom("a variant with data"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Refusal> {
        Err(de::Error::custom("a variant with data"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Refusal> {
        Err(de::Error::custom("a variant with data"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::RawRun;
    use crate::{DataSource, Hosts, Optimizer};

    fn field<'a>(shape: &'a Shape, name: &str) -> &'a Field {
        shape.fields().iter().find(|field| field.name == name).expect("the field exists")
    }

    fn has_unknown(shape: &Shape) -> bool {
        match shape {
            Shape::Any => true,
            Shape::Struct(fields) => fields.iter().any(|field| has_unknown(&field.shape)),
            Shape::Map(inner) | Shape::List(inner) | Shape::Tuple(_, inner) | Shape::Optional(inner) => {
                has_unknown(inner)
            }
            _ => false,
        }
    }

    #[test]
    fn the_shape_of_both_files_is_known_to_the_last_key() {
        assert!(!has_unknown(&Shape::of::<RawRun>()));
        assert!(!has_unknown(&Shape::of::<Hosts>()));
    }

    #[test]
    fn a_field_without_a_default_is_required() {
        let source = Shape::of::<DataSource>();
        let required: Vec<&str> = source.fields().iter().filter(|f| f.required).map(|f| f.name).collect();
        assert_eq!(required, ["name", "manifest", "media"]);
        assert!(Shape::of::<Optimizer>().fields().iter().all(|field| !field.required));
        let run = Shape::of::<RawRun>();
        assert!(field(&field(&run, "model").shape, "path").required);
        assert!(!field(&field(&run, "model").shape, "dtype").required);
        assert!(field(&field(&run, "faults").shape, "do").required);
        assert!(
            field(&field(&field(&run, "stages").shape, "data").shape, "train").shape.fields()[0].required
        );
    }

    #[test]
    fn values_keep_their_words_and_bounds() {
        let optimizer = Shape::of::<Optimizer>();
        assert_eq!(field(&optimizer, "betas").shape, Shape::Tuple(2, Box::new(Shape::Number)));
        assert_eq!(field(&optimizer, "schedule").shape, Shape::OneOf(&["constant", "linear", "cosine"]));
        assert_eq!(field(&optimizer, "max_consecutive_skips").shape, Shape::Whole(u32::MAX.into()));
    }
}
