//! The program `hark-ui`: Hark's window.

#![forbid(unsafe_code)]
#![cfg_attr(windows, windows_subsystem = "windows")]

use std::{
    env,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use eframe::egui::{ViewportBuilder, vec2};
use hark_command_line::{Program, duration};
use hark_demo::Speakers;
use hark_node::{
    console,
    device::{InputSpec, OutputSpec, list_devices},
    event::Direction,
    reach::names::PeerPlace,
    store::{Home, StoreError},
};
use hark_ui::{
    APP_ID,
    app::{App, Opening, native_options},
    icon::icon,
    instance::Instance,
    platform::MenuArguments,
    settings::SettingsFile,
    sound::devices_of,
    start::Options,
};

/// Hark's window: talk with your squad, and hear many nets at once
#[derive(Parser)]
#[command(name = "hark-ui", version, max_term_width = 100)]
struct Arguments {
    /// A ticket or a hark: link to join by
    ticket: Vec<String>,
    /// State of this device [default: the platform's data directory, or $HARK_HOME]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Which organisation, where there are several; repeatable [default: all]
    #[arg(long, value_name = "NAME")]
    org: Vec<String>,
    /// The name shown to others
    #[arg(long)]
    name: Option<String>,
    /// mic, mic:NAME, file:PATH, file:PATH?loop or silence
    /// [default: the microphone chosen in the window, or mic]
    #[arg(long, value_name = "SPEC")]
    input: Option<InputSpec>,
    /// speaker, speaker:NAME, file:PATH, file:PATH?stereo or null
    /// [default: the loudspeaker chosen in the window, or speaker]
    #[arg(long, value_name = "SPEC")]
    output: Option<OutputSpec>,
    /// Listen here; repeatable [default: any address, any port, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// An address worth trying, or a name whose DNS records name addresses; repeatable
    #[arg(long, value_name = "ADDR:PORT|NAME")]
    peer: Vec<PeerPlace>,
    /// Do not look on the LAN
    #[arg(long)]
    no_mdns: bool,
    /// Write events as JSON lines; - is standard output
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Stop by itself (30s, 2m)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    lasting: Option<Duration>,
    /// Show the window with an operation of members who talk by themselves, on this machine alone.
    /// Nothing is kept, and no microphone is used
    #[arg(long, conflicts_with_all = ["ticket", "home", "org", "listen", "peer", "no_mdns"])]
    demo: bool,
    #[command(flatten)]
    menu: MenuArguments,
}

fn main() -> ExitCode {
    console::attach();
    let program = Program::new("hark-ui");
    match run(program.parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program.fail(&error),
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(done) = arguments.menu.carry_out()? {
        writeln!(io::stdout(), "{done}")?;
        return Ok(());
    }
    // The speakers of a demo talk for as long as the window is open.
    let (options, opening, bell, _speakers) = if arguments.demo {
        let (speakers, ticket) = Speakers::gather()?;
        (demo(arguments, &speakers), Opening::Join(Box::new(ticket)), None, Some(speakers))
    } else {
        let (options, opening) = real(arguments)?;
        let link = if let Opening::Offer(link) = &opening { link } else { "" };
        let bell = match Instance::of(&options.home, link) {
            Ok(Instance::First(bell)) => Some(bell),
            Ok(Instance::HandedOver) => {
                writeln!(io::stdout(), "Hark is open already: its window comes to the front")?;
                return Ok(());
            }
            // The window says what is wrong with a home that does not open.
            Err(error) if error.is::<StoreError>() => None,
            Err(error) => return Err(error),
        };
        (options, opening, bell, None)
    };
    let (_, settings, _) = SettingsFile::open(&options.home);
    let viewport = ViewportBuilder::default()
        .with_title("Hark")
        .with_app_id(APP_ID)
        .with_icon(icon())
        .with_inner_size(settings.size)
        .with_min_inner_size(vec2(320.0, 120.0));
    let native = eframe::NativeOptions { viewport, ..native_options() };
    let started = eframe::run_native(
        "Hark",
        native,
        Box::new(move |created| Ok(Box::new(App::new(options, opening, bell, &created.egui_ctx)?))),
    );
    started.map_err(|error| {
        anyhow::anyhow!("the window does not open: {error}: `hark talk` needs none")
    })
}

/// The person's own home.
fn real(arguments: Arguments) -> anyhow::Result<(Options, Opening)> {
    // Not by clap: the variable alone must not keep somebody from the demo.
    let home = arguments.home.or_else(|| env::var_os("HARK_HOME").map(PathBuf::from));
    let home = match home {
        Some(home) => home,
        None => Home::default_path().context("this account has no home directory: use --home")?,
    };
    let options = Options {
        home,
        organisations: arguments.org,
        name: arguments.name,
        input: arguments.input,
        output: arguments.output,
        notes: Vec::new(),
        listen: arguments.listen,
        peers: arguments.peer,
        mdns: !arguments.no_mdns,
        port_mapping: true,
        events: arguments.events,
        lasting: arguments.lasting,
    };
    let ticket = arguments.ticket.join(" ");
    Ok((options, if ticket.is_empty() { Opening::Home } else { Opening::Offer(ticket) }))
}

/// A home that goes with the speakers, reached from this machine alone.
fn demo(arguments: Arguments, speakers: &Speakers) -> Options {
    // It is to be seen where nothing can be heard.
    let is_silent =
        arguments.output.is_none() && devices_of(&list_devices(), Direction::Output).is_empty();
    let note = "no loudspeaker was found: the demo is silent".to_owned();
    Options {
        home: speakers.home(YOU),
        organisations: Vec::new(),
        name: arguments.name.or_else(|| Some(YOU.to_owned())),
        input: arguments.input.or(Some(InputSpec::Silence)),
        output: arguments.output.or(is_silent.then_some(OutputSpec::Null)),
        notes: is_silent.then_some(note).into_iter().collect(),
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        peers: Vec::new(),
        mdns: false,
        port_mapping: false,
        events: arguments.events,
        lasting: arguments.lasting,
    }
}

/// The name of the person in a demo.
const YOU: &str = "You";

#[cfg(test)]
#[path = "../../tests/src/command_lines.rs"]
mod command_lines;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_line_on_a_page_is_one_that_the_window_takes() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let untrue = command_lines::untrue(&Arguments::command(), root, 3);
        assert!(untrue.is_empty(), "{}", untrue.join("\n"));
    }
}
