//! The calls into the kernel: `ioctl`, `mmap`, `poll` on a video device. The one place of this crate with `unsafe`.
//!
//! Each call hands the kernel a structure whose layout and size stand in [`layout`](super::layout) and are part of
//! the call's number, so a kernel that disagrees refuses the number. What is mapped is unmapped in one place, after
//! the stream has been stopped.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper that builds without the kernel's headers"
)]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::layout::{
    Buffer, BufferRequest, CAPTURE, Capability, Control, DISCRETE, Format, FormatDescription, FrameInterval,
    FrameSize, MMAP, StreamParameters,
};
use super::{Applied, Filled, FourCc, Identity, Kernel, Size};

/// No driver lists more.
const MAX_ENTRIES: u32 = 256;

const QUERY_CAPABILITY: Opcode = opcode::read::<Capability>(b'V', 0);
const ENUMERATE_FORMATS: Opcode = opcode::read_write::<FormatDescription>(b'V', 2);
const SET_FORMAT: Opcode = opcode::read_write::<Format>(b'V', 5);
const REQUEST_BUFFERS: Opcode = opcode::read_write::<BufferRequest>(b'V', 8);
const QUERY_BUFFER: Opcode = opcode::read_write::<Buffer>(b'V', 9);
const QUEUE: Opcode = opcode::read_write::<Buffer>(b'V', 15);
const DEQUEUE: Opcode = opcode::read_write::<Buffer>(b'V', 17);
const STREAM_ON: Opcode = opcode::write::<u32>(b'V', 18);
const STREAM_OFF: Opcode = opcode::write::<u32>(b'V', 19);
const SET_PARAMETERS: Opcode = opcode::read_write::<StreamParameters>(b'V', 22);
const SET_CONTROL: Opcode = opcode::read_write::<Control>(b'V', 28);
const ENUMERATE_SIZES: Opcode = opcode::read_write::<FrameSize>(b'V', 74);
const ENUMERATE_INTERVALS: Opcode = opcode::read_write::<FrameInterval>(b'V', 75);

/// A video device of this machine.
pub(super) struct VideoDevice {
    file: File,
    mapped: Vec<Mapping>,
    streaming: bool,
}

/// A buffer of the driver's in our memory.
struct Mapping {
    start: *mut c_void,
    length: usize,
}

// SAFETY: the pointer is to memory of the whole process and is used through `&VideoDevice` only.
unsafe impl Send for Mapping {}

/// A structure whose bytes are all zero.
macro_rules! zeroed {
    ($kind:ty) => {
        // SAFETY: plain numbers, for which zero is a value.
        unsafe { std::mem::zeroed::<$kind>() }
    };
}

impl VideoDevice {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path)?;
        Ok(Self { file, mapped: Vec::new(), streaming: false })
    }

    fn update<const OPCODE: Opcode, T>(&self, value: &mut T) -> Result<(), Errno> {
        loop {
            // SAFETY: every opcode above is made from the size of the type it is used with, and the kernel reads
            // and writes no more than that.
            match unsafe { ioctl(&self.file, Updater::<OPCODE, T>::new(value)) } {
                Err(Errno::INTR) => {}
                done => return done,
            }
        }
    }

    fn buffer(index: u32) -> Buffer {
        Buffer { index, kind: CAPTURE, memory: MMAP, ..zeroed!(Buffer) }
    }

    fn map(&mut self, index: u32) -> io::Result<()> {
        let mut buffer = Self::buffer(index);
        self.update::<QUERY_BUFFER, _>(&mut buffer)?;
        let length = buffer.length as usize;
        // Only the low half of the union is the offset.
        let offset = (buffer.offset as u64) & u64::from(u32::MAX);
        // SAFETY: a new mapping that overlaps nothing; it is kept until `unmap`.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &self.file, offset)
        }?;
        self.mapped.push(Mapping { start, length });
        Ok(())
    }
}

impl Kernel for VideoDevice {
    fn identity(&mut self) -> io::Result<Identity> {
        let mut capability = zeroed!(Capability);
        self.update::<QUERY_CAPABILITY, _>(&mut capability)?;
        Ok(Identity::of(&capability))
    }

    fn formats(&mut self) -> io::Result<Vec<FourCc>> {
        let mut formats = Vec::new();
        for index in 0..MAX_ENTRIES {
            let mut format = FormatDescription { index, kind: CAPTURE, ..zeroed!(FormatDescription) };
            match self.update::<ENUMERATE_FORMATS, _>(&mut format) {
                Ok(()) => formats.push(FourCc(format.fourcc)),
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(formats)
    }

    fn sizes(&mut self, format: FourCc) -> io::Result<Vec<Size>> {
        let mut sizes = Vec::new();
        for index in 0..MAX_ENTRIES {
            let mut size = FrameSize { index, fourcc: format.0, ..zeroed!(FrameSize) };
            match self.update::<ENUMERATE_SIZES, _>(&mut size) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOTTY) => break,
                Err(error) => return Err(error.into()),
            }
            let [a, b, _, c, d, _] = size.values;
            if size.kind == DISCRETE {
                sizes.push(Size { width: a, height: b });
            } else {
                // A range: its ends, and the size everyone has.
                sizes.extend([Size { width: a, height: c }, Size { width: b, height: d }]);
                if (a..=b).contains(&640) && (c..=d).contains(&480) {
                    sizes.push(Size { width: 640, height: 480 });
                }
                break;
            }
        }
        Ok(sizes)
    }

    fn rates(&mut self, format: FourCc, size: Size) -> io::Result<Vec<f32>> {
        let mut rates = Vec::new();
        for index in 0..MAX_ENTRIES {
            let mut interval = FrameInterval {
                index,
                fourcc: format.0,
                width: size.width,
                height: size.height,
                ..zeroed!(FrameInterval)
            };
            match self.update::<ENUMERATE_INTERVALS, _>(&mut interval) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOTTY) => break,
                Err(error) => return Err(error.into()),
            }
            let [numerator, denominator, ..] = interval.values;
            if numerator > 0 {
                rates.push(denominator as f32 / numerator as f32);
            }
            if interval.kind != DISCRETE {
                break;
            }
        }
        Ok(rates)
    }

    fn set_format(&mut self, format: FourCc, size: Size) -> io::Result<Applied> {
        let mut wanted = Format {
            kind: CAPTURE,
            width: size.width,
            height: size.height,
            fourcc: format.0,
            ..zeroed!(Format)
        };
        self.update::<SET_FORMAT, _>(&mut wanted)?;
        Ok(Applied {
            format: FourCc(wanted.fourcc),
            size: Size { width: wanted.width, height: wanted.height },
            stride: wanted.stride as usize,
        })
    }

    fn set_rate(&mut self, rate: f32) -> io::Result<f32> {
        let mut parameters = StreamParameters {
            kind: CAPTURE,
            numerator: 1000,
            denominator: (rate * 1000.0) as u32,
            ..zeroed!(StreamParameters)
        };
        self.update::<SET_PARAMETERS, _>(&mut parameters)?;
        Ok(parameters.denominator as f32 / parameters.numerator.max(1) as f32)
    }

    fn set_control(&mut self, id: u32, value: i32) -> io::Result<()> {
        Ok(self.update::<SET_CONTROL, _>(&mut Control { id, value })?)
    }

    fn start(&mut self, buffers: u32) -> io::Result<()> {
        let mut request =
            BufferRequest { count: buffers, kind: CAPTURE, memory: MMAP, ..zeroed!(BufferRequest) };
        self.update::<REQUEST_BUFFERS, _>(&mut request)?;
        for index in 0..request.count {
            self.map(index)?;
            self.queue(index)?;
        }
        // SAFETY: the kernel reads one number.
        unsafe { ioctl(&self.file, Setter::<STREAM_ON, u32>::new(CAPTURE)) }?;
        self.streaming = true;
        Ok(())
    }

    fn wait(&mut self, length: Duration) -> io::Result<bool> {
        let mut ready = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN)];
        let length = Timespec { tv_sec: length.as_secs() as i64, tv_nsec: i64::from(length.subsec_nanos()) };
        match poll(&mut ready, Some(&length)) {
            Ok(0) | Err(Errno::INTR) => Ok(false),
            // A lost device is always ready: whoever waited would spin.
            Ok(_) if ready.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP)) => {
                Err(Errno::NODEV.into())
            }
            Ok(_) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn dequeue(&mut self) -> io::Result<Option<Filled>> {
        let mut buffer = Self::buffer(0);
        match self.update::<DEQUEUE, _>(&mut buffer) {
            Ok(()) => Ok(Some(Filled {
                index: buffer.index,
                used: buffer.used as usize,
                damaged: buffer.flags & super::layout::BUFFER_DAMAGED != 0,
            })),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn bytes(&self, index: u32) -> &[u8] {
        self.mapped.get(index as usize).map_or(&[], |mapping| {
            // SAFETY: mapped for reading with this length, and not unmapped while `self` is borrowed. The driver
            // does not write to a buffer that was dequeued, and this is called between dequeue and queue.
            unsafe { std::slice::from_raw_parts(mapping.start.cast::<u8>(), mapping.length) }
        })
    }

    fn queue(&mut self, index: u32) -> io::Result<()> {
        Ok(self.update::<QUEUE, _>(&mut Self::buffer(index))?)
    }
}

impl Drop for VideoDevice {
    fn drop(&mut self) {
        if self.streaming {
            // SAFETY: the kernel reads one number. A device that is gone refuses, which changes nothing.
            let _ = unsafe { ioctl(&self.file, Setter::<STREAM_OFF, u32>::new(CAPTURE)) };
        }
        for mapping in self.mapped.drain(..) {
            // SAFETY: mapped once in `map`, and no slice of it outlives `self`.
            let _ = unsafe { munmap(mapping.start, mapping.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn call_numbers_are_those_of_the_kernels_header() {
        for (opcode, number) in [
            (QUERY_CAPABILITY, 0x8068_5600),
            (ENUMERATE_FORMATS, 0xc040_5602),
            (SET_FORMAT, 0xc0d0_5605),
            (REQUEST_BUFFERS, 0xc014_5608),
            (QUERY_BUFFER, 0xc058_5609),
            (QUEUE, 0xc058_560f),
            (DEQUEUE, 0xc058_5611),
            (STREAM_ON, 0x4004_5612),
            (STREAM_OFF, 0x4004_5613),
            (SET_PARAMETERS, 0xc0cc_5616),
            (SET_CONTROL, 0xc008_561c),
            (ENUMERATE_SIZES, 0xc02c_564a),
            (ENUMERATE_INTERVALS, 0xc034_564b),
        ] {
            assert_eq!(u64::from(opcode), number, "{number:#x}");
        }
    }

    #[test]
    fn what_is_no_camera_refuses_the_calls() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut device = VideoDevice::open(file.path()).unwrap();
        assert_eq!(device.identity().unwrap_err().raw_os_error(), Some(25));
        assert!(device.start(4).is_err());
        assert!(device.dequeue().is_err());
        assert_eq!(device.bytes(0), b"");
    }
}
