//! What the kernel's video interface reads and writes, as `linux/videodev2.h` lays it out.
//!
//! Written by hand, since bindings made at build time need the kernel's headers and a C front end for every target.
//! On 32-bit systems the layouts are those with 64-bit time, which every kernel since 5.6 takes, also for 32-bit
//! programs on a 64-bit kernel. The sizes are tested against the header's.

/// A single-planar video capture stream.
pub(super) const CAPTURE: u32 = 1;
/// Buffers that the driver owns and the program maps.
pub(super) const MMAP: u32 = 1;
/// The device can capture video.
pub(super) const CAN_CAPTURE: u32 = 0x1;
/// The device can stream.
pub(super) const CAN_STREAM: u32 = 0x0400_0000;
/// The capabilities of this node stand apart from those of the whole device.
pub(super) const HAS_NODE_CAPABILITIES: u32 = 0x8000_0000;
/// The buffer holds damaged data.
pub(super) const BUFFER_DAMAGED: u32 = 0x40;
/// The kind of a size or rate enumeration that lists single values.
pub(super) const DISCRETE: u32 = 1;

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Capability {
    pub(super) driver: [u8; 16],
    pub(super) card: [u8; 32],
    pub(super) bus: [u8; 32],
    pub(super) version: u32,
    pub(super) capabilities: u32,
    pub(super) node_capabilities: u32,
    pub(super) reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FormatDescription {
    pub(super) index: u32,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) description: [u8; 32],
    pub(super) fourcc: u32,
    pub(super) bus_code: u32,
    pub(super) reserved: [u32; 3],
}

/// `struct v4l2_format`, as far as it concerns single-planar video. Its union holds pointers, hence the alignment.
#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(8)))]
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub(super) kind: u32,
    #[cfg(target_pointer_width = "64")]
    pub(super) padding: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fourcc: u32,
    pub(super) field: u32,
    pub(super) stride: u32,
    pub(super) bytes: u32,
    pub(super) rest: [u32; 44],
}

/// `struct v4l2_frmsizeenum`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FrameSize {
    pub(super) index: u32,
    pub(super) fourcc: u32,
    pub(super) kind: u32,
    /// Width and height, or least, largest and step of either.
    pub(super) values: [u32; 6],
    pub(super) reserved: [u32; 2],
}

/// `struct v4l2_frmivalenum`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FrameInterval {
    pub(super) index: u32,
    pub(super) fourcc: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) kind: u32,
    /// Seconds as a fraction, or least, largest and step.
    pub(super) values: [u32; 6],
    pub(super) reserved: [u32; 2],
}

/// `struct v4l2_streamparm`, as far as it concerns capture.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct StreamParameters {
    pub(super) kind: u32,
    pub(super) capability: u32,
    pub(super) mode: u32,
    /// Seconds per frame, as a fraction.
    pub(super) numerator: u32,
    pub(super) denominator: u32,
    pub(super) rest: [u32; 46],
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct BufferRequest {
    pub(super) count: u32,
    pub(super) kind: u32,
    pub(super) memory: u32,
    pub(super) rest: [u32; 2],
}

/// `struct v4l2_buffer`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    pub(super) index: u32,
    pub(super) kind: u32,
    pub(super) used: u32,
    pub(super) flags: u32,
    pub(super) field: u32,
    pub(super) time: [i64; 2],
    pub(super) timecode: [u32; 4],
    pub(super) sequence: u32,
    pub(super) memory: u32,
    /// A union as wide as a pointer; for mapped buffers its first four bytes are the offset to map.
    pub(super) offset: usize,
    pub(super) length: u32,
    pub(super) rest: [u32; 2],
}

/// `struct v4l2_control`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Control {
    pub(super) id: u32,
    pub(super) value: i32,
}

/// Controls by the names the settings give them, with the kernel's numbers.
pub(crate) const CONTROLS: [(&str, u32); 13] = [
    ("brightness", 0x0098_0900),
    ("contrast", 0x0098_0901),
    ("saturation", 0x0098_0902),
    ("white-balance-auto", 0x0098_090c),
    ("gain", 0x0098_0913),
    ("power-line", 0x0098_0918),
    ("white-balance", 0x0098_091a),
    ("sharpness", 0x0098_091b),
    ("exposure-auto", 0x009a_0901),
    ("exposure", 0x009a_0902),
    ("focus", 0x009a_090a),
    ("focus-auto", 0x009a_090c),
    ("zoom", 0x009a_090d),
];

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_kernels_header() {
        assert_eq!(size_of::<Capability>(), 104);
        assert_eq!(size_of::<FormatDescription>(), 64);
        assert_eq!(size_of::<FrameSize>(), 44);
        assert_eq!(size_of::<FrameInterval>(), 52);
        assert_eq!(size_of::<StreamParameters>(), 204);
        assert_eq!(size_of::<BufferRequest>(), 20);
        assert_eq!(size_of::<Control>(), 8);
        let wide = cfg!(target_pointer_width = "64");
        assert_eq!(size_of::<Format>(), if wide { 208 } else { 204 });
        assert_eq!(size_of::<Buffer>(), if wide { 88 } else { 80 });
        assert_eq!(std::mem::offset_of!(Buffer, time), 24);
        assert_eq!(std::mem::offset_of!(Buffer, offset), 64);
        assert_eq!(std::mem::offset_of!(Format, width), if wide { 8 } else { 4 });
        assert_eq!(std::mem::offset_of!(Capability, node_capabilities), 88);
    }
}
