//! What is bound to placeholders and read out of rows, whatever the database.

use std::sync::Arc;

/// A value to bind; a null keeps its type, because some databases want to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// An integer of 64 bits; a truth is 1 or 0, a moment milliseconds since 1970.
    Int(Option<i64>),
    /// A text.
    Text(Option<Arc<str>>),
    /// Bytes.
    Blob(Option<Vec<u8>>),
}

/// What can be bound.
pub(crate) trait Bind: Sized {
    fn value(self) -> Value;
    fn null() -> Value;
}

macro_rules! bind {
    ($($kind:ident from $($source:ty = $convert:expr),+;)+) => {$($(
        impl Bind for $source {
            fn value(self) -> Value {
                Value::$kind(Some($convert(self)))
            }

            fn null() -> Value {
                Value::$kind(None)
            }
        }
    )+)+};
}

bind! {
    Int from i64 = i64::from, u32 = i64::from, u16 = i64::from, u8 = i64::from, bool = i64::from;
    Text from Arc<str> = Arc::from, String = Arc::from, &str = Arc::from;
    Blob from Vec<u8> = Vec::from, [u8; 16] = Vec::from;
}

impl<T: Bind> Bind for Option<T> {
    fn value(self) -> Value {
        self.map_or_else(T::null, T::value)
    }

    fn null() -> Value {
        T::null()
    }
}
