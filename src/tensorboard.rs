//! Event files: numbers and text over the steps of a run, as TensorBoard reads them.
//!
//! A file is a sequence of records. A record is the length of its message (u64), the checksum of
//! that length, the message, the checksum of the message; all little-endian. The checksum is CRC-32C,
//! rotated and offset. A message is an `Event` in protocol buffers, of which the parts that are
//! written here are declared below under the names and field numbers of TensorBoard's own
//! `event.proto`, `summary.proto` and `tensor.proto`.
//!
//! Only writing: TensorBoard reads.

use crate::error::{Error, Result};
use crc::{CRC_32_ISCSI, Crc, Table};
use prost::{Message, Oneof};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What stands in the name of each event file, before the time at which it was made.
const MARK: &str = "events.out.tfevents.";

/// An event file that grows.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: BufWriter<File>,
    record: Vec<u8>,
}

impl Events {
    /// Begins a file in `folder`, which is made where there is none.
    ///
    /// TensorBoard takes the files of a folder for one run. A run that goes on says so by
    /// `resumed_at`, its next step: what older files tell of steps from there on no longer holds.
    ///
    /// # Errors
    /// [`Error::Write`], also where the folder has the events of another run and this one does not
    /// go on.
    pub fn create(folder: &Path, resumed_at: Option<u64>) -> Result<Self> {
        let cannot_write = |source| Error::write(folder, source);
        std::fs::create_dir_all(folder).map_err(cannot_write)?;
        let newest = newest(folder).map_err(cannot_write)?;
        if newest.is_some() && resumed_at.is_none() {
            let problem = "it has the events of another run; choose another folder, for \
                           TensorBoard takes all that is in one for one run";
            return Err(cannot_write(io::Error::other(problem)));
        }
        // They are read in the order of their names: this one must be the last.
        let time = newest.map_or(0, |time| time.saturating_add(1)).max(seconds() as u64);
        let host = gethostname::gethostname().to_string_lossy().replace(['/', '\\'], "-");
        let path = folder.join(format!("{MARK}{time:010}.{host}.{}.0", std::process::id()));
        let file = File::create_new(&path).map_err(|source| Error::write(&path, source))?;
        let mut events = Self { path, file: BufWriter::new(file), record: Vec::new() };
        let mut begin = || {
            events.add(0, What::FileVersion("brain.Event:2".to_string()))?;
            if let Some(step) = resumed_at {
                events.add(step, What::SessionLog(SessionLog { status: SessionLog::START }))?;
            }
            events.flush()
        };
        if let Err(source) = begin() {
            // What is begun on a full disk stands in nobody's way.
            let _ = std::fs::remove_file(&events.path);
            return Err(Error::write(&events.path, source));
        }
        Ok(events)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds numbers at `step`, each with its tag. They are kept in single precision.
    ///
    /// # Errors
    /// What the operating system says; the file may then end in the middle of a record, which
    /// TensorBoard leaves out.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let value = |&(tag, number): &(&str, f64)| Value {
            tag: tag.to_string(),
            simple_value: Some(number as f32),
            ..Value::default()
        };
        self.add(step, What::Summary(Summary { value: scalars.iter().map(value).collect() }))
    }

    /// Adds a table of `lines` at `step`, which TensorBoard shows letter for letter, but
    /// for white space.
    ///
    /// # Errors
    /// As [`scalars`](Self::scalars).
    pub fn lines(&mut self, step: u64, tag: &str, lines: &[String]) -> io::Result<()> {
        let plugin_data = PluginData { plugin_name: "text".to_string() };
        let shape = TensorShape { dim: vec![Dim { size: lines.len() as i64 }] };
        let value = Value {
            tag: tag.to_string(),
            metadata: Some(SummaryMetadata { plugin_data: Some(plugin_data) }),
            tensor: Some(Tensor {
                dtype: Tensor::STRING,
                tensor_shape: Some(shape),
                string_val: lines.iter().map(|line| literal(line).into_bytes()).collect(),
            }),
            ..Value::default()
        };
        self.add(step, What::Summary(Summary { value: vec![value] }))
    }

    /// Hands all that was added to the operating system.
    ///
    /// # Errors
    /// As [`scalars`](Self::scalars).
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn add(&mut self, step: u64, what: What) -> io::Result<()> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let event = Event { wall_time: seconds(), step, what: Some(what) };
        let length = (event.encoded_len() as u64).to_le_bytes();
        let Self { record, file, .. } = self;
        record.clear();
        record.extend(length);
        record.extend(checksum(&length));
        event.encode(record).expect("a vector grows");
        record.extend(checksum(&record[12..]));
        // In one piece, so that the buffer is handed on between records.
        file.write_all(record)
    }
}

/// The time of the newest event file in `folder`; 0 where there are some without.
fn newest(folder: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some((_, time)) = name.split_once(MARK) {
            let time = time.split('.').next().and_then(|time| time.parse().ok());
            newest = newest.max(Some(time.unwrap_or(0)));
        }
    }
    Ok(newest)
}

/// Seconds since 1970.
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |time| time.as_secs_f64())
}

/// The masked CRC-32C of `bytes`.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// `text` as Markdown, which is what TensorBoard takes it for.
fn literal(text: &str) -> String {
    let mut literal = String::new();
    for character in text.chars() {
        match character {
            '<' => literal.push_str("&lt;"),
            '&' => literal.push_str("&amp;"),
            // Those that TensorBoard's Markdown lets a backslash stand before.
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '>' | '#' | '+' | '-'
            | '.' | '!' => literal.extend(['\\', character]),
            _ => literal.push(character),
        }
    }
    literal
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl SessionLog {
    const START: i32 = 1;
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional, so that a zero is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<SummaryMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<TensorShape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

impl Tensor {
    const STRING: i32 = 7;
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// CRC-32C bit by bit, from its polynomial.
    fn crc_bit_by_bit(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
        })
    }

    /// The messages of an event file, whose checksums are looked at.
    fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let masked = |bytes: &[u8]| {
            let crc = crc_bit_by_bit(bytes);
            crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
        };
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(sum, masked(length));
            let (message, rest) =
                rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(sum, masked(message));
            messages.push(message.to_vec());
            bytes = rest;
        }
        messages
    }

    /// The fields of a protobuf message by number, in their order: of a varint the value, else the bytes.
    fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 127) << shift;
                if byte < 128 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !message.is_empty() {
            let key = varint(&mut message);
            let length = match key & 7 {
                0 => {
                    let value = varint(&mut message);
                    fields.push((key >> 3, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut message) as usize,
                5 => 4,
                kind => panic!("{kind} is no kind of field"),
            };
            fields.push((key >> 3, message[..length].to_vec()));
            message = &message[length..];
        }
        fields
    }

    /// The only field of that number, or nothing.
    fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
        let mut found = fields(message).into_iter().filter(|field| field.0 == number);
        let first = found.next().map(|field| field.1);
        assert!(found.next().is_none());
        first
    }

    /// (step, tag, value) of each number in a file.
    fn scalars(messages: &[Vec<u8>]) -> Vec<(u64, String, f32)> {
        let mut scalars = Vec::new();
        for message in messages {
            let step =
                field(message, 2).map_or(0, |step| u64::from_le_bytes(step.try_into().unwrap()));
            for (_, value) in fields(&field(message, 5).unwrap_or_default()) {
                let tag = String::from_utf8(field(&value, 1).unwrap()).unwrap();
                if let Some(number) = field(&value, 2) {
                    scalars.push((step, tag, f32::from_le_bytes(number.try_into().unwrap())));
                }
            }
        }
        scalars
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        let crc = Crc::<u32>::new(&CRC_32_ISCSI);
        // RFC 3720, B.4, and the catalogue's check value.
        for (bytes, published) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&(0..32).collect::<Vec<u8>>(), 0x46dd_794e),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(crc.checksum(bytes), published);
            assert_eq!(crc_bit_by_bit(bytes), published);
            let masked = u32::from_le_bytes(checksum(bytes));
            assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), published);
        }
    }

    proptest! {
        #[test]
        fn an_independent_reader_finds_what_was_written(
            written in prop::collection::vec((0..u64::MAX >> 1, "[a-z/]{1,9}", any::<f64>()), 0..20),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut events = Events::create(folder.path(), None).unwrap();
            for (step, tag, number) in &written {
                events.scalars(*step, &[(tag, *number), ("zero", 0.)]).unwrap();
            }
            events.flush().unwrap();
            let messages = messages(&std::fs::read(events.path()).unwrap());
            prop_assert_eq!(field(&messages[0], 3).unwrap(), b"brain.Event:2");
            let found = scalars(&messages);
            prop_assert_eq!(found.len(), 2 * written.len());
            for (pair, (step, tag, number)) in found.chunks_exact(2).zip(&written) {
                prop_assert_eq!((pair[0].0, &pair[0].1), (*step, tag));
                prop_assert_eq!(pair[0].2.to_bits(), (*number as f32).to_bits());
                prop_assert_eq!(&pair[1], &(*step, "zero".to_string(), 0.));
            }
        }
    }

    #[test]
    fn lines_are_a_tensor_of_strings_for_the_text_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), None).unwrap();
        let lines = ["", "Jean-Luc", "<b>", "서울"].map(str::to_string);
        events.lines(7, "names", &lines).unwrap();
        events.flush().unwrap();
        let messages = messages(&std::fs::read(events.path()).unwrap());
        let value = field(&field(&messages[1], 5).unwrap(), 1).unwrap();
        assert_eq!(field(&value, 1).unwrap(), b"names");
        let plugin = field(&field(&value, 9).unwrap(), 1).unwrap();
        assert_eq!(field(&plugin, 1).unwrap(), b"text");
        let tensor = field(&value, 8).unwrap();
        assert_eq!(field(&tensor, 1).unwrap()[0], 7);
        let size = field(&field(&field(&tensor, 2).unwrap(), 2).unwrap(), 1).unwrap();
        assert_eq!(size[0], 4);
        let strings: Vec<String> = fields(&tensor)
            .into_iter()
            .filter(|field| field.0 == 8)
            .map(|field| String::from_utf8(field.1).unwrap())
            .collect();
        assert_eq!(strings, ["", r"Jean\-Luc", "&lt;b>".replace('>', r"\>").as_str(), "서울"]);
    }

    #[test]
    fn a_run_that_goes_on_has_a_later_file_which_says_from_where() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/on/the/way");
        let first = Events::create(&folder, None).unwrap();
        let second = Events::create(&folder, Some(300)).unwrap();
        let third = Events::create(&folder, Some(400)).unwrap();
        assert!(first.path() < second.path() && second.path() < third.path());
        let messages = messages(&std::fs::read(second.path()).unwrap());
        assert_eq!(field(&messages[1], 2).unwrap(), 300u64.to_le_bytes());
        assert_eq!(field(&field(&messages[1], 7).unwrap(), 1).unwrap()[0], 1);
    }

    #[test]
    fn another_runs_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Events::create(folder.path(), None).unwrap();
        let refusal = Events::create(folder.path(), None).unwrap_err().to_string();
        assert!(refusal.contains("another run"), "{refusal}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(Events::create(&file, None).is_err());
    }
}
