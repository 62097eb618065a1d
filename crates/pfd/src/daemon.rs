//! The daemon from its start to its end.
//!
//! Start: sockets, devices, ruleset, rights given up, threads, READY. Until the ruleset is in
//! force nothing reads the devices, so every packet is blocked. End: sockets removed, engine thread
//! stopped, devices gone with their descriptors.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use pfapi::units::IfIndex;
use pfengine::{Engine, EngineConfig, Loader};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::compile::{CompileError, Compiler};
use crate::config::{Config, Fail};
use crate::control::{Access, Control, Ownership, Service, SocketError, Sockets};
use crate::exit::Exit;
use crate::io::{DeviceCounters, IoLoop, IoOptions, Waker};
use crate::log;
use crate::metrics::Metrics;
use crate::notify::{READY, STOPPING, notify};
use crate::pflog::{LogFileError, LogFiles, PacketLog, Recorder};
use crate::privdrop::{self, Identity, UserError};
use crate::router::{Counters, Router, RouterOptions};
use crate::run::{self, Clock};
use crate::secret::{ClusterSecret, SecretError};
use crate::tun::{Tun, TunError, TunOptions};

/// How often a device whose name is taken is tried again, and after what time: 1 s in all.
const TAKEN_TRIES: u32 = 10;
const TAKEN_PAUSE: Duration = Duration::from_millis(100);

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No user to become.
    #[error(transparent)]
    User(#[from] UserError),
    /// No control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No device.
    #[error(transparent)]
    Device(#[from] TunError),
    /// No file for the packet log.
    #[error(transparent)]
    PacketLog(#[from] LogFileError),
    /// The secrets cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The address of the metrics cannot be had.
    #[error("metrics: {addr}: {source}")]
    Metrics {
        /// The address.
        addr: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No ruleset.
    #[error(
        "{0}\nthe ruleset does not load, so nothing would be filtered; `pfctl -nf FILE` says more; \
         correct it, or set fail = \"open\" to start without one"
    )]
    Ruleset(CompileError),
    /// A step of the start failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Packet I/O failed.
    #[error("packet I/O failed: {0}")]
    Io(io::Error),
    /// The engine thread panicked.
    #[error("the engine thread failed; this is a bug, the lines above say where")]
    Panicked,
}

impl DaemonError {
    /// Exit code of the process.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::User(_)
            | Self::Secret(SecretError::Readable { .. } | SecretError::Line { .. })
            | Self::Device(TunError::NameInvalid { .. } | TunError::AddressInvalid { .. }) => {
                Exit::Config
            }
            Self::Device(TunError::Permission { .. }) => Exit::Permission,
            Self::Socket(SocketError::Step { source, .. })
            | Self::PacketLog(LogFileError::System { source, .. })
            | Self::Step { source, .. }
            | Self::Metrics { source, .. }
            | Self::Secret(SecretError::System { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Exit::Permission
            }
            Self::PacketLog(LogFileError::Foreign(_)) => Exit::Config,
            Self::PacketLog(_)
            | Self::Socket(_)
            | Self::Device(_)
            | Self::Step { .. }
            | Self::Metrics { .. }
            | Self::Secret(_) => Exit::System,
            Self::Ruleset(_) => Exit::Ruleset,
            Self::Io(_) => Exit::Io,
            Self::Panicked => Exit::Software,
        }
    }
}

/// What wakes the main thread.
enum Event {
    Signal(i32),
    EngineEnded(Result<(), DaemonError>),
}

/// A daemon that is ready.
struct Daemon {
    config: Config,
    engine: Arc<Engine>,
    clock: Clock,
    control: Control,
    secret: ClusterSecret,
    metrics: Option<Metrics>,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    waker: Waker,
    counters: Arc<Counters>,
    devices: Vec<(IfIndex, Arc<DeviceCounters>)>,
    events: mpsc::Receiver<Event>,
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// [`DaemonError`], after everything that was made is removed again.
pub fn run(config: Config) -> Result<(), DaemonError> {
    start(config)?.wait()
}

fn start(config: Config) -> Result<Daemon, DaemonError> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let clock = Clock::start();
    let identity = privdrop::choose(config.user.as_deref())?;
    let sockets =
        Sockets::bind(&config.socket, &config.socket_read_only(), ownership(identity.as_ref()))?;
    let io = open_devices(&config)?;
    let facts = config.facts();
    let router = Router::new(&RouterOptions { facts: &facts, routes: &config.routes });
    let engine = Engine::new(
        EngineConfig {
            facts,
            seed: random().map_err(step("read random octets"))?,
            hostid: hostid()?,
        },
        clock.now(),
    );
    engine.use_routes(Box::new(router.routes()));
    engine.set_unix_time(Clock::unix_nanos(), clock.now());
    let secret = ClusterSecret::new(config.cluster_secret_file.clone(), Arc::clone(&engine), clock);
    secret.load()?;
    let metrics = match config.metrics {
        Some(addr) => {
            Some(Metrics::bind(addr).map_err(|source| DaemonError::Metrics { addr, source })?)
        }
        None => None,
    };
    load_first(&config, &engine, clock, identity.as_ref())?;
    let files = LogFiles::open(config.pflog.clone(), log_owner(identity.as_ref()))?;
    give_up_rights(&config, identity.as_ref())?;

    let packet_log = PacketLog::new();
    let recorder = packet_log.start(files).map_err(step("start a thread"))?;
    let (sender, events) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let waker = io.waker();
    let counters = Arc::clone(router.counters());
    let devices = io.counters().to_vec();
    watch_signals(sender.clone()).map_err(step("watch signals"))?;
    let path = Path { io, router, clock, packet_log: packet_log.clone() };
    spawn_engine(path, &engine, &stop, sender).map_err(step("start a thread"))?;
    let service = Service::new(Arc::clone(&engine), clock, access(identity.as_ref()), packet_log);
    let service = service.with_secret(secret.clone());
    let metrics = metrics
        .map(|listener| Metrics::start(listener, Arc::clone(&engine), clock))
        .transpose()
        .map_err(step("start a thread"))?;
    let control = Control::start(sockets, service).map_err(step("start a thread"))?;
    notify(READY);
    log::info(&format!(
        "ready: {} interfaces, {}",
        config.interfaces.len(),
        config.socket.display()
    ));
    Ok(Daemon {
        config,
        engine,
        clock,
        control,
        secret,
        metrics,
        recorder,
        stop,
        waker,
        counters,
        devices,
        events,
    })
}

impl Daemon {
    /// Serves signals until one of them, or a failure, ends the daemon.
    fn wait(self) -> Result<(), DaemonError> {
        let outcome = loop {
            match self.events.recv() {
                Ok(Event::Signal(SIGHUP)) => {
                    self.recorder.reopen();
                    self.secret.reload();
                    self.reload();
                }
                Ok(Event::Signal(SIGUSR1)) => self.tell_counters(),
                Ok(Event::Signal(_)) | Err(mpsc::RecvError) => {
                    self.stop.store(true, Relaxed);
                    self.waker.wake();
                    break self.wait_for_engine();
                }
                Ok(Event::EngineEnded(outcome)) => break outcome,
            }
        };
        notify(STOPPING);
        self.tell_counters();
        match self.control.stop() {
            Err(error) if error.is_expected() => log::info(&error.to_string()),
            Err(error) => log::warn(&error.to_string()),
            Ok(()) => {}
        }
        self.recorder.stop();
        if let Some(metrics) = self.metrics {
            metrics.stop();
        }
        log::info("stopped");
        outcome
    }

    fn wait_for_engine(&self) -> Result<(), DaemonError> {
        loop {
            match self.events.recv() {
                Ok(Event::EngineEnded(outcome)) => return outcome,
                Ok(Event::Signal(_)) => {}
                Err(mpsc::RecvError) => return Ok(()),
            }
        }
    }

    /// Loads the ruleset again; states stay, and so does the old ruleset when the new one fails.
    fn reload(&self) {
        // The daemon compiles with the rights it has left; only who kept root's gives them up here.
        let identity =
            if privdrop::is_root() { privdrop::choose(None).ok().flatten() } else { None };
        match load(&self.config, &self.engine, self.clock, identity.as_ref()) {
            Ok(()) => log::info(&format!("{}: loaded again", self.config.ruleset.display())),
            Err(error) => {
                log::error(&error.to_string());
                log::error(
                    "the ruleset does not load; the old one stays in force; `pfctl -nf FILE` says more",
                );
            }
        }
    }

    fn tell_counters(&self) {
        log::info(&format!("router: {}", self.counters));
        for (interface, counters) in &self.devices {
            let name = &self.config.interfaces[usize::from(interface.0)].name;
            let stats = counters.snapshot();
            log::info(&format!(
                "{name}: received {} packets, {} octets, {} errors; sent {} packets, {} octets, \
                 {} dropped, {} errors",
                stats.rx_packets,
                stats.rx_octets,
                stats.rx_errors,
                stats.tx_packets,
                stats.tx_octets,
                stats.tx_drops,
                stats.tx_errors
            ));
        }
    }
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::Step { step, source }
}

fn open_devices(config: &Config) -> Result<IoLoop, DaemonError> {
    let mut ports = Vec::new();
    for (interface, index) in config.interfaces.iter().zip(0..) {
        let tun = open_patiently(&TunOptions {
            name: interface.name.clone(),
            mtu: u32::from(interface.mtu),
            backend: interface.backend,
            netns: interface.netns.clone(),
            peer: interface.peers.iter().map(|peer| (peer.addr, peer.prefix_len)).collect(),
            queues: 1,
        })?;
        log::detail(&format!("{}: up, {:?}", interface.name, tun.offloads()));
        ports.extend(tun.port(IfIndex(index), 0));
    }
    let io = IoLoop::new(ports, &IoOptions::default()).map_err(step("set up packet I/O"))?;
    log::detail(&format!("packet I/O: {:?}", io.method()));
    Ok(io)
}

/// Opens a device; a name that is taken gets a moment: the kernel frees the devices of a daemon that
/// was killed only after its process has gone.
fn open_patiently(options: &TunOptions) -> Result<Tun, TunError> {
    for _ in 0..TAKEN_TRIES {
        match Tun::open(options) {
            Err(TunError::NameTaken { .. }) => thread::sleep(TAKEN_PAUSE),
            outcome => return outcome,
        }
    }
    Tun::open(options)
}

/// Loads the ruleset of the start and enables the filter.
fn load_first(
    config: &Config,
    engine: &Engine,
    clock: Clock,
    identity: Option<&Identity>,
) -> Result<(), DaemonError> {
    match load(config, engine, clock, identity) {
        Ok(()) => log::detail(&format!("{}: loaded", config.ruleset.display())),
        Err(error) if config.fail == Fail::Open => {
            log::error(&error.to_string());
            log::warn("fail = \"open\": THE FILTER HAS NO RULES AND PASSES EVERYTHING");
            log::warn("load a ruleset with pfctl -f");
        }
        Err(error) => return Err(DaemonError::Ruleset(error)),
    }
    // It was made disabled, so this always changes something.
    let _ = engine.set_enabled(true, clock.now());
    Ok(())
}

fn load(
    config: &Config,
    engine: &Engine,
    clock: Clock,
    identity: Option<&Identity>,
) -> Result<(), CompileError> {
    let compiler = Compiler::find(identity.map(Identity::ids))?;
    let ruleset = compiler.compile(&config.ruleset, &engine.facts())?;
    let loader = Loader { uid: nix::unistd::getuid().as_raw(), pid: std::process::id() };
    engine
        .load(&ruleset, loader, clock.now())
        .map_err(|error| CompileError::Refused(format!("{}: {error}", config.ruleset.display())))
}

fn give_up_rights(config: &Config, identity: Option<&Identity>) -> Result<(), DaemonError> {
    let Some(identity) = identity else {
        return privdrop::no_new_rights().map_err(step("give up rights"));
    };
    privdrop::become_user(identity).map_err(step("give up root's rights"))?;
    if identity.uid == 0 {
        log::warn("user = \"root\": the daemon keeps root's rights");
    }
    if let Err(error) = File::open(&config.ruleset)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        log::warn(&format!(
            "{}: user {} cannot read it, so SIGHUP will not load it again; use pfctl -f",
            config.ruleset.display(),
            identity.name
        ));
    }
    Ok(())
}

/// A user of its own may be trusted with the sockets; one that is shared may only remove them.
fn ownership(identity: Option<&Identity>) -> Ownership {
    Ownership {
        folder_uid: identity.map(|identity| identity.uid),
        socket_gid: identity.filter(|identity| !identity.is_shared()).map(|identity| identity.gid),
    }
}

/// Who may open the files of the packet log again after the rights are given up; a shared user may
/// not, as the files hold what others send.
fn log_owner(identity: Option<&Identity>) -> Option<(u32, u32)> {
    identity.filter(|identity| !identity.is_shared()).map(Identity::ids)
}

fn access(identity: Option<&Identity>) -> Access {
    match identity {
        Some(identity) if identity.is_shared() => Access { uid: None, gid: 0 },
        Some(identity) => Access { uid: Some(identity.uid), gid: identity.gid },
        None => Access {
            uid: Some(nix::unistd::getuid().as_raw()),
            gid: nix::unistd::getgid().as_raw(),
        },
    }
}

fn watch_signals(events: mpsc::Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// What the engine thread takes with it.
struct Path {
    io: IoLoop,
    router: Router,
    clock: Clock,
    packet_log: PacketLog,
}

fn spawn_engine(
    path: Path,
    engine: &Arc<Engine>,
    stop: &Arc<AtomicBool>,
    events: mpsc::Sender<Event>,
) -> io::Result<()> {
    let worker = engine.worker();
    let stop = Arc::clone(stop);
    thread::Builder::new().name("engine".to_owned()).spawn(move || {
        // The devices go down with the loop, so a filter that failed forwards nothing.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let Path { io, router, clock, packet_log } = path;
            run::run(io, worker, router, clock, &packet_log, &stop)
        }));
        let outcome = match outcome {
            Ok(outcome) => outcome.map_err(DaemonError::Io),
            Err(_) => Err(DaemonError::Panicked),
        };
        // The main thread is gone only when the process ends.
        let _ = events.send(Event::EngineEnded(outcome));
    })?;
    Ok(())
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(octets)
}

/// A random id that is not zero.
fn hostid() -> Result<u32, DaemonError> {
    let octets = random().map_err(step("read random octets"))?;
    Ok(u32::from_be_bytes(octets).max(1))
}
