//! The list of a share, without fetching anything.

use warpline::Connection;
use warpline_wire::Reader;

use crate::code::JoinCode;
use crate::error::ShareError;
use crate::get::greet;
use crate::limits::PATH_MAX;
use crate::manifest::{Entry, OrderCheck, decode_entry};
use crate::message::{kind, take_bytes};

/// What a list consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// An entry.
    Entry(Entry),
    /// Something that the host cannot share: its path, and why.
    Skipped(Vec<u8>, String),
}

/// Passes every entry of the share to `each`, in order, as they come.
///
/// # Errors
/// See [`ShareError`].
pub async fn ls(
    connection: &Connection,
    code: &JoinCode,
    mut each: impl FnMut(Listed) -> Result<(), ShareError>,
) -> Result<(), ShareError> {
    let (mut control, mut answers, _) = greet(connection, code).await?;
    control.finish().map_err(ShareError::connection)?;
    let mut order = OrderCheck::default();
    let mut previous = Vec::new();
    while let Some((what, body)) = answers.next().await? {
        let mut r = Reader::new(body);
        match what {
            kind::ENTRIES => {
                while !r.is_empty() {
                    let entry = decode_entry(&mut r, &previous)?;
                    order.check(&entry)?;
                    previous.clone_from(&entry.path);
                    each(Listed::Entry(entry))?;
                }
            }
            kind::SKIPPED => {
                let (Some(path), Some(why)) = (take_bytes(&mut r, PATH_MAX), take_bytes(&mut r, 1024)) else {
                    return Err(ShareError::peer("a notice that cannot be read"));
                };
                each(Listed::Skipped(path.to_vec(), String::from_utf8_lossy(why).into_owned()))?;
            }
            kind::LIST_END => {
                connection.close(0, b"");
                return Ok(());
            }
            _ => return Err(ShareError::peer("a message that hosts do not send here")),
        }
    }
    Err(ShareError::connection("the list of files was cut off"))
}
