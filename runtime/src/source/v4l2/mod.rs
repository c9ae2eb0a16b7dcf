//! Webcams, by the kernel's own interface (Video4Linux2): which there are, what they offer, their frames.
//!
//! Everything but the system calls stands on the trait `Kernel`, so that choice, conversion and every fault are
//! tested with a device that follows a script.

mod capture;
#[cfg(target_os = "linux")]
mod kernel;
mod layout;
mod negotiate;

use std::fmt;
use std::io;
use std::time::Duration;

pub use capture::{devices, open};
pub(crate) use layout::CONTROLS;

/// Four letters that name how pixels are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FourCc(u32);

impl FourCc {
    const MJPEG: Self = Self(u32::from_le_bytes(*b"MJPG"));
    const JPEG: Self = Self(u32::from_le_bytes(*b"JPEG"));
    const YUYV: Self = Self(u32::from_le_bytes(*b"YUYV"));

    fn is_jpeg(self) -> bool {
        self == Self::MJPEG || self == Self::JPEG
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_le_bytes().escape_ascii())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A picture's size in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    width: u32,
    height: u32,
}

/// Who a device is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    /// Its name, such as `HD Pro Webcam C920`.
    card: String,
    /// Where it is plugged in, such as `usb-0000:01:00.0-1.2`.
    bus: String,
    /// Whether this node gives pictures; a webcam has a second one that does not.
    captures: bool,
}

impl Identity {
    #[cfg(target_os = "linux")]
    fn of(capability: &layout::Capability) -> Self {
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).trim().to_owned()
        };
        let of_node = if capability.capabilities & layout::HAS_NODE_CAPABILITIES == 0 {
            capability.capabilities
        } else {
            capability.node_capabilities
        };
        let needed = layout::CAN_CAPTURE | layout::CAN_STREAM;
        Self {
            card: text(&capability.card),
            bus: text(&capability.bus),
            captures: of_node & needed == needed,
        }
    }
}

/// What the driver made of a wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Applied {
    format: FourCc,
    size: Size,
    /// Bytes from one row to the next; 0 for compressed formats.
    stride: usize,
}

/// A buffer the driver has filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Filled {
    index: u32,
    /// Bytes.
    used: usize,
    damaged: bool,
}

/// What a video device is asked; its answers are the operating system's.
trait Kernel: Send {
    fn identity(&mut self) -> io::Result<Identity>;
    fn formats(&mut self) -> io::Result<Vec<FourCc>>;
    fn sizes(&mut self, format: FourCc) -> io::Result<Vec<Size>>;
    /// Frames per second.
    fn rates(&mut self, format: FourCc, size: Size) -> io::Result<Vec<f32>>;
    fn set_format(&mut self, format: FourCc, size: Size) -> io::Result<Applied>;
    /// Gives the rate the driver chose.
    fn set_rate(&mut self, rate: f32) -> io::Result<f32>;
    fn set_control(&mut self, id: u32, value: i32) -> io::Result<()>;
    /// Asks for this many buffers, hands them all to the driver, and starts the stream.
    fn start(&mut self, buffers: u32) -> io::Result<()>;
    /// Waits until a frame is ready; `false` = none within `length`.
    fn wait(&mut self, length: Duration) -> io::Result<bool>;
    /// Takes a filled buffer; `None` = none is ready.
    fn dequeue(&mut self) -> io::Result<Option<Filled>>;
    /// The bytes of a buffer that was taken; empty where there is none.
    fn bytes(&self, index: u32) -> &[u8];
    /// Gives a buffer back.
    fn queue(&mut self, index: u32) -> io::Result<()>;
}
