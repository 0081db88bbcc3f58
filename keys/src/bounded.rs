use std::{fmt, marker::PhantomData, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, de};

/// A list of at most `MAX` items, also while it is decoded: a peer that states a longer one is
/// refused before anything is allocated for it. [PROTO-1.3]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// The first `MAX` of `items`; the rest is dropped.
    pub fn truncated(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }

    /// The items as a plain vector.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> de::Visitor<'de> for Items<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} items")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                if let Some(length) = items.size_hint()
                    && length > MAX
                {
                    return Err(de::Error::invalid_length(length, &self));
                }
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == MAX {
                        return Err(de::Error::invalid_length(MAX + 1, &self));
                    }
                    list.push(item);
                }
                Ok(list)
            }
        }

        deserializer.deserialize_seq(Items::<T, MAX>(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError, decode, encode};

    #[test]
    fn a_list_takes_what_fits_and_refuses_more() {
        let three = List::<u8, 3>::truncated([1, 2, 3, 4]);
        assert_eq!(*three, [1, 2, 3]);
        assert_eq!(decode::<List<u8, 3>>(&encode(&three), 10), Ok(three.clone()));
        assert_eq!(decode::<List<u8, 2>>(&encode(&three), 10), Err(DecodeError::Malformed));
        // A stated length of more than four thousand million items.
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 1];
        assert_eq!(decode::<List<u8, 3>>(&lie, 10), Err(DecodeError::Malformed));
    }

    /// Text formats do not say how many items follow.
    #[test]
    fn a_list_whose_length_is_not_stated_takes_no_more_than_fits() {
        let read = |count: u8| {
            let mut items = 0..count;
            let items = de::value::SeqDeserializer::new(std::iter::from_fn(|| items.next()));
            List::<u8, 3>::deserialize(items).map_err(|error: de::value::Error| error.to_string())
        };
        assert_eq!(read(3), Ok(List::truncated([0, 1, 2])));
        assert_eq!(read(4), Err("invalid length 4, expected at most 3 items".to_owned()));
    }
}
