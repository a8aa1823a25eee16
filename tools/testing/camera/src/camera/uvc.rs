// SPDX-License-Identifier: GPL-2.0

//! What a camera says about itself, by the USB Video Class 1.1: one camera,
//! without controls, that streams one kind of pixels over a bulk endpoint.

use crate::raw_gadget::PACKET;
use camera::{Layout, Pixels, Size};

/// The interfaces: one for control, one for streaming, both with a single
/// alternate setting. It is the lack of others that makes a stream a bulk one.
pub const CONTROL: u16 = 0;
pub const STREAMING: u16 = 1;

/// The only configuration.
pub const CONFIGURATION: u16 = 1;
/// What it draws: nothing that anyone would count, but 0 looks odd.
pub const POWER: u8 = 50;

/// Selectors of the streaming interface: what could be, and what is to be.
pub const PROBE: u8 = 1;
pub const COMMIT: u8 = 2;
/// The selector of the control interface that says why a request failed.
pub const ERROR_CODE: u8 = 2;
pub const INVALID_CONTROL: u8 = 6;
pub const INVALID_REQUEST: u8 = 7;

pub const SET_CUR: u8 = 0x01;
pub const GET_CUR: u8 = 0x81;
pub const GET_MIN: u8 = 0x82;
pub const GET_MAX: u8 = 0x83;
pub const GET_LEN: u8 = 0x85;
pub const GET_INFO: u8 = 0x86;
pub const GET_DEF: u8 = 0x87;
/// The answer to GET_INFO: it can be got and set.
pub const GET_AND_SET: u8 = 3;

/// How many bytes a payload has at most, its header included. The host's driver
/// asks for 32 packets at once, so that a payload fills one of its buffers.
pub const PAYLOAD: usize = 32 * PACKET;

const DEVICE: u8 = 1;
const CONFIG: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const ASSOCIATION: u8 = 11;
const CLASS_INTERFACE: u8 = 0x24;

const VIDEO: u8 = 14;
const SUBCLASS_CONTROL: u8 = 1;
const SUBCLASS_STREAMING: u8 = 2;
const SUBCLASS_COLLECTION: u8 = 3;

/// The lens, and the cable.
const INPUT_TERMINAL: u8 = 1;
const OUTPUT_TERMINAL: u8 = 2;

const ENGLISH: u16 = 0x0409;
const STRINGS: [&str; 2] = ["dmabuf-coherency", "Camera without hardware"];
const CLOCK: u32 = 1_000_000;
/// The names of kinds of pixels, by which the host's driver knows them.
const YUY2: [u8; 16] = *b"YUY2\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71";
const BGR3: [u8; 16] = *b"\x7d\xeb\x36\xe4\x4f\x52\xce\x11\x9f\x53\x00\x20\xaf\x0b\xa7\x70";
const BGR4: [u8; 16] = *b"\x7e\xeb\x36\xe4\x4f\x52\xce\x11\x9f\x53\x00\x20\xaf\x0b\xa7\x70";

/// A camera: what it can do, and where it is plugged in.
#[derive(Clone, Debug)]
pub struct Camera {
    /// The sizes that it offers, its favourite first.
    pub sizes: Vec<Size>,
    /// What its frames are made of.
    pub pixels: Pixels,
    /// Frames a second.
    pub rate: u32,
    /// The address of the endpoint that it streams over.
    pub endpoint: u8,
}

/// A format that host and camera have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Which of the sizes, counted from 0.
    pub index: usize,
}

fn descriptor(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![body.len() as u8 + 2, kind];
    bytes.extend(body);
    bytes
}

impl Camera {
    /// The time between two frames, in units of 100 ns.
    fn interval(&self) -> u32 {
        10_000_000 / self.rate
    }

    /// The answer to GET_DESCRIPTOR, if there is such a descriptor.
    pub fn descriptor(&self, value: u16) -> Option<Vec<u8>> {
        let [index, kind] = value.to_le_bytes();
        match (kind, index) {
            (DEVICE, 0) => Some(self.device()),
            (CONFIG, 0) => Some(self.configuration()),
            (STRING, 0) => Some(descriptor(STRING, &[&ENGLISH.to_le_bytes()])),
            (STRING, _) => {
                let text = STRINGS.get(usize::from(index) - 1)?;
                let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                Some(descriptor(STRING, &[&units]))
            }
            _ => None,
        }
    }

    fn device(&self) -> Vec<u8> {
        descriptor(
            DEVICE,
            &[
                &0x0200_u16.to_le_bytes(),
                // Its interfaces belong together, by an association.
                &[0xef, 2, 1],
                &[64],
                // The numbers of the webcam that the kernel can be itself.
                &0x1d6b_u16.to_le_bytes(),
                &0x0102_u16.to_le_bytes(),
                &0x0100_u16.to_le_bytes(),
                &[1, 2, 0, 1],
            ],
        )
    }

    fn configuration(&self) -> Vec<u8> {
        let body = [
            descriptor(
                ASSOCIATION,
                &[&[CONTROL as u8, 2, VIDEO, SUBCLASS_COLLECTION, 0, 2]],
            ),
            descriptor(
                INTERFACE,
                &[&[CONTROL as u8, 0, 0, VIDEO, SUBCLASS_CONTROL, 0, 2]],
            ),
            self.terminals(),
            descriptor(
                INTERFACE,
                &[&[STREAMING as u8, 0, 1, VIDEO, SUBCLASS_STREAMING, 0, 0]],
            ),
            self.formats(),
            self.endpoint().to_vec(),
        ]
        .concat();
        let length = body.len() as u16 + 9;
        let head = descriptor(
            CONFIG,
            &[
                &length.to_le_bytes(),
                &[2, CONFIGURATION as u8, 0, 0x80, POWER],
            ],
        );
        [head, body].concat()
    }

    /// From the lens to the cable, with no processing in between.
    fn terminals(&self) -> Vec<u8> {
        let body = [
            descriptor(
                CLASS_INTERFACE,
                &[
                    // A camera, of any focal length, with three bytes of
                    // controls that it does not have.
                    &[2, INPUT_TERMINAL],
                    &0x0201_u16.to_le_bytes(),
                    &[0, 0],
                    &[0; 6],
                    &[3, 0, 0, 0],
                ],
            ),
            descriptor(
                CLASS_INTERFACE,
                &[
                    &[3, OUTPUT_TERMINAL],
                    &0x0101_u16.to_le_bytes(),
                    &[0, INPUT_TERMINAL, 0],
                ],
            ),
        ]
        .concat();
        let length = body.len() as u16 + 13;
        let head = descriptor(
            CLASS_INTERFACE,
            &[
                &[1],
                &0x0110_u16.to_le_bytes(),
                &length.to_le_bytes(),
                &CLOCK.to_le_bytes(),
                &[1, STREAMING as u8],
            ],
        );
        [head, body].concat()
    }

    fn formats(&self) -> Vec<u8> {
        let name = match self.pixels {
            Pixels::Yuyv => YUY2,
            Pixels::Bgr24 => BGR3,
            Pixels::Xbgr32 => BGR4,
        };
        let bits = 8 * self.pixels.per_pixel() as u8;
        let mut body = descriptor(
            CLASS_INTERFACE,
            &[
                &[4, 1, self.sizes.len() as u8],
                &name,
                &[bits, 1, 0, 0, 0, 0],
            ],
        );
        for (index, size) in (1..).zip(&self.sizes) {
            let bytes = Layout::new(*size, self.pixels).bytes() as u32;
            let bits = (bytes * 8).saturating_mul(self.rate);
            body.extend(descriptor(
                CLASS_INTERFACE,
                &[
                    &[5, index, 0],
                    &(size.width() as u16).to_le_bytes(),
                    &(size.height() as u16).to_le_bytes(),
                    &bits.to_le_bytes(),
                    &bits.to_le_bytes(),
                    &bytes.to_le_bytes(),
                    &self.interval().to_le_bytes(),
                    &[1],
                    &self.interval().to_le_bytes(),
                ],
            ));
        }
        // BT.709 colours, with the luma of BT.601.
        body.extend(descriptor(CLASS_INTERFACE, &[&[13, 1, 1, 4]]));
        let length = body.len() as u16 + 14;
        let head = descriptor(
            CLASS_INTERFACE,
            &[
                &[1, 1],
                &length.to_le_bytes(),
                &[self.endpoint, 0, OUTPUT_TERMINAL, 0, 0, 0, 1, 0],
            ],
        );
        [head, body].concat()
    }

    /// The descriptor of the endpoint.
    pub fn endpoint(&self) -> [u8; 7] {
        let [low, high] = (PACKET as u16).to_le_bytes();
        [7, ENDPOINT, self.endpoint, 2, low, high, 0]
    }

    /// Reads what the host asks for, and takes what comes nearest: there is one
    /// rate only, so that all that matters is the size.
    pub fn negotiate(&self, request: &[u8]) -> Format {
        let asked = request.get(3).map_or(1, |index| usize::from(*index));
        let index = asked.clamp(1, self.sizes.len()) - 1;
        Format { index }
    }

    /// The smallest, the largest and the default one.
    pub fn format(&self, request: u8) -> Format {
        let index = if request == GET_MAX {
            self.sizes.len() - 1
        } else {
            0
        };
        Format { index }
    }

    /// What frames of a format look like.
    pub fn layout(&self, format: Format) -> Layout {
        Layout::new(self.sizes[format.index], self.pixels)
    }

    /// A format in the words of PROBE and COMMIT.
    pub fn parameters(&self, format: Format) -> Vec<u8> {
        let bytes = [
            &[0, 0, 1, format.index as u8 + 1][..],
            &self.interval().to_le_bytes(),
            &[0; 10],
            &(self.layout(format).bytes() as u32).to_le_bytes(),
            &(PAYLOAD as u32).to_le_bytes(),
            &CLOCK.to_le_bytes(),
            // Payloads say which frame they belong to, and which is its last.
            &[3, 1, 1, 1],
        ]
        .concat();
        debug_assert_eq!(bytes.len(), usize::from(PARAMETERS));
        bytes
    }
}

/// How many bytes the parameters of PROBE and COMMIT are.
pub const PARAMETERS: u16 = 34;

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> Camera {
        Camera {
            sizes: vec!["320x240".parse().unwrap(), "640x480".parse().unwrap()],
            pixels: Pixels::Yuyv,
            rate: 30,
            endpoint: 0x81,
        }
    }

    /// Takes descriptors apart.
    fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut all = Vec::new();
        while let Some(length) = bytes.first() {
            let (first, rest) = bytes.split_at((*length).into());
            all.push(first);
            bytes = rest;
        }
        all
    }

    fn u16_at(bytes: &[u8], at: usize) -> usize {
        u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
    }

    #[test]
    fn total_lengths_are_right() {
        let configuration = camera().descriptor(0x0200).unwrap();
        assert_eq!(u16_at(&configuration, 2), configuration.len());
        let all = split(&configuration);
        let interfaces: Vec<usize> = (0..all.len()).filter(|i| all[*i][1] == INTERFACE).collect();
        assert_eq!(interfaces.len(), 2);
        for (interface, place) in [(0, 5), (1, 4)] {
            let of_class: Vec<_> = all[interfaces[interface] + 1..]
                .iter()
                .take_while(|descriptor| descriptor[1] == CLASS_INTERFACE)
                .collect();
            let length: usize = of_class.iter().map(|descriptor| descriptor.len()).sum();
            assert_eq!(u16_at(of_class[0], place), length);
        }
    }

    #[test]
    fn descriptors_have_the_lengths_of_the_specification() {
        let lengths: Vec<usize> = split(&camera().descriptor(0x0200).unwrap())
            .iter()
            .map(|descriptor| descriptor.len())
            .collect();
        assert_eq!(lengths, [9, 8, 9, 13, 18, 9, 9, 14, 27, 30, 30, 6, 7]);
        assert_eq!(camera().descriptor(0x0100).unwrap().len(), 18);
    }

    #[test]
    fn strings_are_utf16() {
        assert_eq!(camera().descriptor(0x0300).unwrap(), [4, 3, 9, 4]);
        let name = camera().descriptor(0x0302).unwrap();
        assert_eq!(name[2..6], *b"C\0a\0");
        assert_eq!(camera().descriptor(0x0303), None);
        assert_eq!(camera().descriptor(0x0600), None);
    }

    #[test]
    fn negotiates_any_request() {
        let camera = camera();
        for (asked, index) in [(0, 0), (1, 0), (2, 1), (3, 1), (255, 1)] {
            let mut request = camera.parameters(Format { index: 0 });
            request[3] = asked;
            assert_eq!(camera.negotiate(&request), Format { index });
        }
        assert_eq!(camera.negotiate(&[]), Format { index: 0 });
    }

    #[test]
    fn parameters_are_those_of_uvc_1_1() {
        let camera = camera();
        for request in [GET_MIN, GET_MAX, GET_DEF] {
            let format = camera.format(request);
            let parameters = camera.parameters(format);
            assert_eq!(parameters.len(), usize::from(PARAMETERS));
            assert_eq!(camera.negotiate(&parameters), format);
            let size = camera.layout(format).bytes() as u32;
            assert_eq!(parameters[18..22], size.to_le_bytes());
        }
    }
}
