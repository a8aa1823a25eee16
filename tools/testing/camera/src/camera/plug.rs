// SPDX-License-Identifier: GPL-2.0

//! A camera in its socket: it answers the host, and starts and stops to stream
//! as the host wants it.

use crate::{
    Cli, Notice,
    raw_gadget::{Endpoint, Event, RawGadget, Setup},
    say,
    stream::Stream,
    uvc::{self, Camera, Format},
    worker::{Stop, Worker},
};
use anyhow::{Context as _, Error, Result};
use rustix::io::Errno;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

/// Standard requests, with whom they are for.
const GET_DESCRIPTOR: (u8, u8) = (0x80, 6);
const GET_CONFIGURATION: (u8, u8) = (0x80, 8);
const SET_CONFIGURATION: (u8, u8) = (0x00, 9);
const GET_INTERFACE: (u8, u8) = (0x81, 10);
const SET_INTERFACE: (u8, u8) = (0x01, 11);
const CLEAR_ENDPOINT_FEATURE: (u8, u8) = (0x02, 1);
/// Requests of the class, to an interface.
const CLASS_GET: u8 = 0xa1;
const CLASS_SET: u8 = 0x21;

/// A camera that is plugged in until it is removed.
pub struct Plug {
    worker: Worker<()>,
    sent: Arc<AtomicU32>,
}

impl Plug {
    /// Plugs a camera in. What happens to it goes to `notices`.
    pub fn insert(cli: &Cli, notices: Sender<Notice>) -> Result<Self> {
        let gadget = Arc::new(RawGadget::plug(&cli.udc_driver, &cli.udc)?);
        let sent = Arc::new(AtomicU32::new(0));
        let mut function = Function {
            camera: Camera {
                sizes: cli.sizes.clone(),
                pixels: cli.pixels,
                rate: cli.rate,
                endpoint: 0,
            },
            gadget,
            sent: sent.clone(),
            limit: cli.frames,
            verbose: cli.verbose,
            notices,
            probe: Format { index: 0 },
            commit: Format { index: 0 },
            error: 0,
            endpoint: None,
            stream: None,
        };
        let worker = Worker::start(move |stop| {
            if let Err(error) = function.run(stop) {
                function.tell(Notice::Failed(error));
            }
            function.stop_stream();
        });
        Ok(Self { worker, sent })
    }

    /// Pulls it out, and says how many frames it has sent.
    pub fn remove(self) -> u32 {
        self.worker.stop();
        self.sent.load(Ordering::Relaxed)
    }
}

/// What a request is answered with.
enum Answer {
    Data(Vec<u8>),
    Accept,
    /// Take the data, then do something with them.
    Negotiate(u8),
    Refuse,
}

struct Function {
    gadget: Arc<RawGadget>,
    camera: Camera,
    sent: Arc<AtomicU32>,
    limit: Option<u32>,
    verbose: bool,
    notices: Sender<Notice>,
    /// What was negotiated last, and what was made of it.
    probe: Format,
    commit: Format,
    /// Why the last request was refused.
    error: u8,
    /// The endpoint, while the host has configured the device.
    endpoint: Option<Endpoint>,
    stream: Option<Worker<()>>,
}

impl Function {
    fn run(&mut self, stop: &Stop) -> Result<()> {
        while !stop.asked() {
            match self.gadget.event() {
                Ok(Event::Connect) => self.camera.endpoint = self.gadget.find_bulk_in()?,
                Ok(Event::Control(setup)) => self.control(setup)?,
                Ok(Event::Reset) => self.unconfigure(),
                Ok(Event::Other) | Err(Errno::INTR) => (),
                Err(errno) => return Err(errno).context("cannot get events of the raw gadget"),
            }
        }
        Ok(())
    }

    /// Nobody misses a notice after the end of the program.
    fn tell(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    fn control(&mut self, setup: Setup) -> Result<()> {
        let mut answer = self.answer(setup)?;
        // A request that goes the wrong way, or wants no bytes of an answer.
        if matches!(answer, Answer::Data(_)) != setup.is_in() {
            answer = Answer::Refuse;
        }
        let result = match &answer {
            Answer::Data(data) => self.gadget.ep0_send(setup, data),
            Answer::Accept => self.gadget.ep0_receive(setup).map(drop),
            Answer::Negotiate(selector) => self.negotiate(*selector, setup),
            Answer::Refuse => self.gadget.ep0_stall(),
        };
        if self.verbose {
            let word = match answer {
                Answer::Data(data) => format!("{} bytes", data.len()),
                Answer::Accept | Answer::Negotiate(_) => "accepted".into(),
                Answer::Refuse => "refused".into(),
            };
            say(format_args!("{setup:x?}: {word}, {result:?}"));
        }
        match result {
            Err(Errno::INVAL | Errno::NODEV) => {
                result.context("cannot answer the host by the raw gadget")
            }
            // The host has lost patience, has reset the device, or is gone.
            _ => Ok(()),
        }
    }

    fn answer(&mut self, setup: Setup) -> Result<Answer> {
        let interface = setup.index & 0xff;
        Ok(match (setup.kind, setup.request) {
            GET_DESCRIPTOR => match self.camera.descriptor(setup.value) {
                Some(descriptor) => Answer::Data(descriptor),
                None => Answer::Refuse,
            },
            GET_CONFIGURATION => {
                let set = self.endpoint.is_some();
                Answer::Data(vec![if set { uvc::CONFIGURATION as u8 } else { 0 }])
            }
            SET_CONFIGURATION => match setup.value {
                0 => {
                    self.unconfigure();
                    Answer::Accept
                }
                uvc::CONFIGURATION => {
                    self.configure()?;
                    Answer::Accept
                }
                _ => Answer::Refuse,
            },
            GET_INTERFACE => Answer::Data(vec![0]),
            SET_INTERFACE if setup.value == 0 => {
                if interface == uvc::STREAMING {
                    self.stop_stream();
                }
                Answer::Accept
            }
            // How hosts say that they stop a stream over a bulk endpoint. The
            // emulated controller keeps it to itself.
            CLEAR_ENDPOINT_FEATURE => {
                self.stop_stream();
                if let Some(endpoint) = self.endpoint {
                    let _ = self.gadget.clear_halt(endpoint);
                }
                Answer::Accept
            }
            (CLASS_GET | CLASS_SET, _) => self.answer_class(interface, setup),
            _ => Answer::Refuse,
        })
    }

    fn answer_class(&mut self, interface: u16, setup: Setup) -> Answer {
        let [_, selector] = setup.value.to_le_bytes();
        let entity = setup.index >> 8;
        let is_probe = selector == uvc::PROBE;
        let answer = match (interface, entity, selector) {
            (uvc::STREAMING, 0, uvc::PROBE | uvc::COMMIT) => match setup.request {
                uvc::SET_CUR => Answer::Negotiate(selector),
                uvc::GET_CUR if is_probe => self.parameters(self.probe),
                uvc::GET_CUR => self.parameters(self.commit),
                uvc::GET_MIN | uvc::GET_MAX | uvc::GET_DEF if is_probe => {
                    self.parameters(self.camera.format(setup.request))
                }
                uvc::GET_LEN => Answer::Data(uvc::PARAMETERS.to_le_bytes().to_vec()),
                uvc::GET_INFO => Answer::Data(vec![uvc::GET_AND_SET]),
                _ => self.refuse(uvc::INVALID_REQUEST),
            },
            (uvc::CONTROL, 0, uvc::ERROR_CODE) if setup.request == uvc::GET_CUR => {
                return Answer::Data(vec![self.error]);
            }
            _ => self.refuse(uvc::INVALID_CONTROL),
        };
        if !matches!(answer, Answer::Refuse) {
            self.error = 0;
        }
        answer
    }

    fn parameters(&self, format: Format) -> Answer {
        Answer::Data(self.camera.parameters(format))
    }

    fn refuse(&mut self, error: u8) -> Answer {
        self.error = error;
        Answer::Refuse
    }

    /// Agrees on a format. A stream begins when the host commits itself to one;
    /// what is left of an earlier one must be gone before the host knows that
    /// we have agreed, or it would be taken for the beginning of the new one.
    fn negotiate(&mut self, selector: u8, setup: Setup) -> Result<(), Errno> {
        if selector == uvc::COMMIT {
            self.stop_stream();
        }
        let format = self.camera.negotiate(&self.gadget.ep0_receive(setup)?);
        self.probe = format;
        if selector == uvc::COMMIT {
            self.commit = format;
            self.start_stream();
        }
        Ok(())
    }

    fn configure(&mut self) -> Result<()> {
        self.unconfigure();
        let endpoint = self
            .gadget
            .enable(self.camera.endpoint())
            .context("cannot enable the endpoint")?;
        self.endpoint = Some(endpoint);
        self.gadget
            .configured(uvc::POWER)
            .context("cannot enter the configured state")?;
        say(format_args!("configured by the host"));
        Ok(())
    }

    fn unconfigure(&mut self) {
        self.stop_stream();
        if let Some(endpoint) = self.endpoint.take() {
            // It fails if the controller is gone, and then it does not matter.
            let _ = self.gadget.disable(endpoint);
        }
    }

    fn start_stream(&mut self) {
        let Some(endpoint) = self.endpoint else {
            return;
        };
        let layout = self.camera.layout(self.commit);
        let stream = Stream {
            gadget: self.gadget.clone(),
            endpoint,
            layout,
            interval: Duration::from_secs(1) / self.camera.rate,
            next: self.sent.clone(),
            limit: self.limit,
        };
        let next = self.sent.load(Ordering::Relaxed);
        say(format_args!("streaming {layout} from frame {next} on"));
        let (notices, sent, limit) = (self.notices.clone(), self.sent.clone(), self.limit);
        self.stream = Some(Worker::start(move |stop| {
            let notice = match stream.run(stop) {
                Err(errno) => Notice::Failed(Error::new(errno).context("cannot send a frame")),
                Ok(()) if limit == Some(sent.load(Ordering::Relaxed)) => Notice::Sent,
                Ok(()) => return,
            };
            let _ = notices.send(notice);
        }));
    }

    fn stop_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.stop();
        }
    }
}
