//! The functions that workers execute: names, parameters, types and units, as data.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields};
use serde::{Deserialize, Serialize};

/// In what a function's work is counted. It depends on the rows alone, never on speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkUnit {
    /// Rows whose main argument is not NULL.
    #[default]
    Calls,
    /// Pixels decoded.
    Pixels,
    /// Samples of signal read.
    Samples,
    /// Words read.
    Tokens,
}

impl WorkUnit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Pixels => "pixels",
            Self::Samples => "samples",
            Self::Tokens => "tokens",
        }
    }
}

impl fmt::Display for WorkUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a parameter accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentType {
    Binary,
    Text,
    Boolean,
    /// An integer, sent as a 64-bit one: one that is out of range fails its row, where a
    /// narrower cast would fail the query.
    Int64,
    Float64,
    /// A list of numbers, sent as a list of 32-bit floats.
    Float32List,
    /// Text or a 64-bit integer, sent as it is.
    TextOrInt64,
}

impl ArgumentType {
    /// The type of a NULL of this parameter.
    pub fn declared(self) -> DataType {
        match self {
            Self::Binary => DataType::Binary,
            Self::Text | Self::TextOrInt64 => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Float32List => float32_list(),
        }
    }

    /// The type in which a value of type `given` travels, or `None` where it is not accepted.
    pub fn wire(self, given: &DataType) -> Option<DataType> {
        let given = match given {
            DataType::Dictionary(_, value) => value.as_ref(),
            DataType::RunEndEncoded(_, value) => value.data_type(),
            other => other,
        };
        let accepted = match self {
            _ if given.is_null() => true,
            Self::Binary => given.is_binary(),
            Self::Text => given.is_string(),
            Self::Boolean => given == &DataType::Boolean,
            Self::Int64 => given.is_integer(),
            Self::Float64 => given.is_numeric(),
            Self::Float32List => {
                list_item(given).is_some_and(|item| item.is_numeric() || item.is_null())
            }
            Self::TextOrInt64 if given.is_integer() => return Some(DataType::Int64),
            Self::TextOrInt64 => given.is_string(),
        };
        accepted.then(|| self.declared())
    }

    /// What a user may pass, in words.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
            Self::Boolean => "true or false",
            Self::Int64 => "an integer",
            Self::Float64 => "a number",
            Self::Float32List => "a list of numbers",
            Self::TextOrInt64 => "text or an integer",
        }
    }
}

/// One parameter of a function.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: ArgumentType,
    /// What an omitted argument (NULL) means, or `None` where the argument is required.
    pub default: Option<&'static str>,
}

/// A function that workers execute, one value a row.
///
/// The first parameter is the main one: a row where it is NULL gives NULL without work.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
    pub name: &'static str,
    pub parameters: Vec<Parameter>,
    /// The result's type, from the types of the arguments as they travel.
    pub returns: fn(&[DataType]) -> DataType,
    pub unit: WorkUnit,
    /// Sentence shown in `hub.functions`.
    pub doc: &'static str,
}

impl FunctionSpec {
    /// `name(a, b = what an omitted b means)`.
    pub fn signature(&self) -> String {
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(|parameter| match parameter.default {
                None => parameter.name.to_owned(),
                Some(default) => format!("{} = {default}", parameter.name),
            })
            .collect();
        format!("{}({})", self.name, parameters.join(", "))
    }

    /// How many of the parameters have to be given.
    pub fn required(&self) -> usize {
        self.parameters
            .iter()
            .filter(|parameter| parameter.default.is_none())
            .count()
    }
}

/// Every function, `echo` included, which is for health checks and benchmarks.
pub fn functions() -> &'static [FunctionSpec] {
    static TABLE: LazyLock<Vec<FunctionSpec>> = LazyLock::new(table);
    &TABLE
}

/// The function of that name (lowercase).
pub fn function(name: &str) -> Option<&'static FunctionSpec> {
    functions().iter().find(|function| function.name == name)
}

const fn required(name: &'static str, kind: ArgumentType) -> Parameter {
    Parameter {
        name,
        kind,
        default: None,
    }
}

const fn optional(name: &'static str, kind: ArgumentType, default: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        default: Some(default),
    }
}

fn table() -> Vec<FunctionSpec> {
    use ArgumentType::{Binary, Boolean, Float32List, Float64, Int64, Text, TextOrInt64};
    vec![
        FunctionSpec {
            name: "dicom_tags",
            parameters: vec![
                required("content", Binary),
                optional("tag", Text, "all, as DICOM JSON"),
            ],
            returns: |_| DataType::Utf8,
            unit: WorkUnit::Calls,
            doc: "the attributes of a DICOM file as DICOM JSON, or one of them as text",
        },
        FunctionSpec {
            name: "dicom_window",
            parameters: vec![
                required("content", Binary),
                optional("center", Float64, "from the file"),
                optional("width", Float64, "from the file"),
                optional("rows", Int64, "native"),
                optional("columns", Int64, "native"),
                optional("frame", Int64, "0"),
            ],
            returns: |_| image(DataType::UInt8),
            unit: WorkUnit::Pixels,
            doc: "one frame of a DICOM file, windowed to 0..255 and optionally resized",
        },
        FunctionSpec {
            name: "ecg_rpeaks",
            parameters: vec![required("signal", Float32List), required("fs", Int64)],
            returns: |_| list(DataType::Int32),
            unit: WorkUnit::Samples,
            doc: "the R peaks of one ECG lead sampled at fs Hz, as sample indices from 0",
        },
        FunctionSpec {
            name: "text_deidentify",
            parameters: vec![
                required("text", Text),
                optional("surrogates", Boolean, "false"),
            ],
            returns: |_| DataType::Utf8,
            unit: WorkUnit::Tokens,
            doc: "a French report with each identifying span replaced by its type, or by a surrogate",
        },
        FunctionSpec {
            name: "echo",
            parameters: vec![required("value", TextOrInt64)],
            returns: |types| types.first().cloned().unwrap_or(DataType::Utf8),
            unit: WorkUnit::Calls,
            doc: "its argument, unchanged, by way of a worker",
        },
    ]
}

fn list_item(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item.data_type()),
        _ => None,
    }
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn float32_list() -> DataType {
    list(DataType::Float32)
}

/// Struct of `pixels` (row by row, samples interleaved), `rows`, `columns` and `samples`.
fn image(pixel: DataType) -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("pixels", list(pixel), true),
        Field::new("rows", DataType::Int32, true),
        Field::new("columns", DataType::Int32, true),
        Field::new("samples", DataType::Int32, true),
    ]))
}
