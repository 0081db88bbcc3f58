use hark_node::snapshot::NetChange;

/// How a net is heard, as arguments; what is not named stays.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct NetArguments {
    /// 0 to 4, 1 being as sent
    #[arg(long, value_name = "GAIN", allow_hyphen_values = true, value_parser = gain)]
    volume: Option<f32>,
    /// -1 left to 1 right
    #[arg(long, value_name = "SIDE", allow_hyphen_values = true, value_parser = side)]
    pan: Option<f32>,
    /// Silence it, but show who talks
    #[arg(long = "mute", value_name = "on|off", value_parser = switch)]
    muted: Option<bool>,
    /// Higher nets turn lower ones down
    #[arg(long, value_name = "0-255", allow_hyphen_values = true, value_parser = priority)]
    priority: Option<u8>,
    /// Talkers there sound as by a radio
    #[arg(long, value_name = "on|off", value_parser = switch)]
    radio: Option<bool>,
}

impl From<NetArguments> for NetChange {
    fn from(arguments: NetArguments) -> Self {
        let NetArguments { volume, pan, muted, priority, radio } = arguments;
        Self { volume, pan, muted, priority, radio }
    }
}

fn gain(text: &str) -> Result<f32, &'static str> {
    text.parse().map_err(|_| "say a number from 0 to 4: 1 is as sent, 0.5 half as loud")
}

fn side(text: &str) -> Result<f32, &'static str> {
    text.parse().map_err(|_| "say a number from -1 (left) to 1 (right)")
}

fn priority(text: &str) -> Result<u8, &'static str> {
    text.parse().map_err(|_| "say a whole number from 0 to 255")
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("say on or off"),
    }
}
