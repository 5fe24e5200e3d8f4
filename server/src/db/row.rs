//! The rows that statements return. A row has two allocations, one for its cells and one for its texts and bytes, whatever the
//! number of columns. Bytes are returned without a copy.

use bytes::{Bytes, BytesMut};

use super::error::DbError;
use super::value::Value;

/// A row of a result.
#[derive(Clone, Debug)]
pub struct Row {
    cells: Box<[Cell]>,
    data: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Null,
    Int(i64),
    Real(f64),
    /// A range of `data`, in UTF-8.
    Text {
        start: usize,
        end: usize,
    },
    /// A range of `data`.
    Bytes {
        start: usize,
        end: usize,
    },
}

impl Row {
    /// Returns the value of a column, counted from 0.
    ///
    /// # Errors
    /// The column does not exist or is of another type, or it is NULL and `T` is not an `Option`.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, DbError> {
        let cell = self.cells.get(index).ok_or_else(|| DbError::other(format!("there is no column {index}")))?;
        T::from_cell(CellRef { cell: *cell, data: &self.data })
            .ok_or_else(|| DbError::other(format!("column {index} is {}, not {}", cell.name(), T::NAME)))
    }

    /// Returns the value of a column, whatever its type.
    ///
    /// # Errors
    /// The column does not exist.
    pub fn value(&self, index: usize) -> Result<Value, DbError> {
        let cell = self.cells.get(index).ok_or_else(|| DbError::other(format!("there is no column {index}")))?;
        let cell = CellRef { cell: *cell, data: &self.data };
        Ok(match cell.cell {
            Cell::Null => Value::Null,
            Cell::Int(value) => Value::Int(value),
            Cell::Real(value) => Value::Real(value),
            Cell::Text { .. } => Value::Text(cell.text().unwrap_or_default().to_owned()),
            Cell::Bytes { .. } => Value::Bytes(cell.bytes().unwrap_or_default()),
        })
    }

    /// Returns the number of columns.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

impl Cell {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Int(_) => "an integer",
            Self::Real(_) => "a real number",
            Self::Text { .. } => "a text",
            Self::Bytes { .. } => "bytes",
        }
    }
}

/// Builds a row, column by column.
#[derive(Debug)]
pub(super) struct RowBuilder {
    cells: Vec<Cell>,
    data: BytesMut,
}

impl RowBuilder {
    pub(super) fn new(columns: usize) -> Self {
        Self { cells: Vec::with_capacity(columns), data: BytesMut::new() }
    }

    pub(super) fn null(&mut self) {
        self.cells.push(Cell::Null);
    }

    pub(super) fn int(&mut self, value: i64) {
        self.cells.push(Cell::Int(value));
    }

    pub(super) fn real(&mut self, value: f64) {
        self.cells.push(Cell::Real(value));
    }

    /// Adds a text.
    ///
    /// # Errors
    /// The text is not UTF-8.
    pub(super) fn text(&mut self, value: &[u8]) -> Result<(), DbError> {
        if std::str::from_utf8(value).is_err() {
            return Err(DbError::other("a text in the database is not UTF-8"));
        }
        let start = self.data.len();
        self.data.extend_from_slice(value);
        self.cells.push(Cell::Text { start, end: self.data.len() });
        Ok(())
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(value);
        self.cells.push(Cell::Bytes { start, end: self.data.len() });
    }

    pub(super) fn finish(self) -> Row {
        Row { cells: self.cells.into_boxed_slice(), data: self.data.freeze() }
    }
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub struct CellRef<'a> {
    cell: Cell,
    data: &'a Bytes,
}

impl CellRef<'_> {
    fn int(self) -> Option<i64> {
        match self.cell {
            Cell::Int(value) => Some(value),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self.cell {
            Cell::Text { start, end } => std::str::from_utf8(self.data.get(start..end)?).ok(),
            _ => None,
        }
    }

    fn bytes(self) -> Option<Bytes> {
        match self.cell {
            Cell::Bytes { start, end } => Some(self.data.slice(start..end)),
            _ => None,
        }
    }
}

/// A type that a column can be read as. Conversions lose nothing.
pub trait FromValue: Sized {
    /// The name of the type in errors.
    const NAME: &'static str;

    /// Converts a value. Returns `None` if the value is of another type or out of range.
    fn from_cell(cell: CellRef<'_>) -> Option<Self>;
}

macro_rules! readable {
    ($($type:ty, $name:literal: |$cell:ident| $read:expr;)*) => {$(
        impl FromValue for $type {
            const NAME: &'static str = $name;

            fn from_cell($cell: CellRef<'_>) -> Option<Self> {
                $read
            }
        }
    )*};
}

readable! {
    i64, "i64": |cell| cell.int();
    i32, "i32": |cell| cell.int()?.try_into().ok();
    u32, "u32": |cell| cell.int()?.try_into().ok();
    u64, "u64": |cell| cell.int()?.try_into().ok();
    bool, "0 or 1": |cell| match cell.int()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    f64, "f64": |cell| match cell.cell {
        Cell::Real(value) => Some(value),
        _ => None,
    };
    String, "text": |cell| cell.text().map(str::to_owned);
    Bytes, "bytes": |cell| cell.bytes();
    Vec<u8>, "bytes": |cell| cell.bytes().map(Vec::from);
}

impl<T: FromValue> FromValue for Option<T> {
    const NAME: &'static str = T::NAME;

    fn from_cell(cell: CellRef<'_>) -> Option<Self> {
        match cell.cell {
            Cell::Null => Some(None),
            _ => T::from_cell(cell).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let mut row = RowBuilder::new(5);
        row.null();
        row.int(-3);
        row.text("grüße".as_bytes()).unwrap();
        row.bytes(&[0, 255]);
        row.real(0.5);
        row.finish()
    }

    #[test]
    fn columns_are_read_by_their_types() {
        let row = row();
        assert_eq!(row.get::<Option<i64>>(0).unwrap(), None);
        assert_eq!(row.get::<i64>(1).unwrap(), -3);
        assert_eq!(row.get::<String>(2).unwrap(), "grüße");
        assert_eq!(row.get::<Bytes>(3).unwrap(), vec![0, 255]);
        assert_eq!(row.get::<Option<Vec<u8>>>(3).unwrap(), Some(vec![0, 255]));
        assert!((row.get::<f64>(4).unwrap() - 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_column_of_another_type_is_an_error() {
        let row = row();
        assert!(row.get::<i64>(0).is_err());
        assert!(row.get::<u32>(1).is_err());
        assert!(row.get::<bool>(1).is_err());
        assert!(row.get::<Bytes>(2).is_err());
        assert!(row.get::<String>(3).is_err());
        assert!(row.get::<i64>(4).is_err());
        let message = row.get::<i64>(9).unwrap_err().to_string();
        assert_eq!(message, "there is no column 9");
    }

    #[test]
    fn invalid_utf8_is_an_error() {
        assert!(RowBuilder::new(1).text(&[255]).is_err());
    }
}
