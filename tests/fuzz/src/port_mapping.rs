use std::sync::Arc;

use hark_keys::{Random, SeededRandom, Timestamp};
use hark_node::reach::ports::{PortAnswer, client::PortClient, nat_pmp, pcp};

use crate::input::{Input, piece};

/// A router answers anything at any time. The client accepts no invalid port, sends no flood of
/// requests, and its timers move on.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
    let mut input = Input::new(bytes);
    let mut now = Timestamp::from_millis(1);
    let own = "192.168.1.23:4000".parse().expect("an address");
    let mut client = PortClient::new(now, own, &random);
    let (mut request, mut understood) = (Vec::new(), false);
    while let Some(choice) = input.next() {
        while let Some(datagram) = client.poll_transmit() {
            request = datagram;
        }
        let answer = match choice {
            // What the router would answer to the last request, with a piece of it changed.
            0..64 => {
                let mut answer = request.clone();
                if answer.first() == Some(&2) {
                    answer[8..24].fill(0);
                } else {
                    answer.splice(answer.len().min(4)..answer.len().min(4), [0; 4]);
                }
                if let Some(opcode) = answer.get_mut(1) {
                    *opcode |= 0x80;
                }
                let at = usize::from(choice);
                for (place, byte) in answer.iter_mut().skip(at).zip(input.piece()) {
                    *place = *byte;
                }
                answer
            }
            64..128 => input.piece().to_vec(),
            128..255 => {
                let seconds = u64::from(choice - 127).pow(2);
                let end = now + std::time::Duration::from_secs(seconds);
                let mut wakes = 0;
                while let Some(at) = client.poll_timeout().filter(|at| *at <= end) {
                    client.handle_timeout(at);
                    assert!(
                        client.poll_timeout().is_none_or(|next| next > at),
                        "time stands still"
                    );
                    wakes += 1;
                }
                assert!(wakes <= 16 + seconds / 2, "{wakes} wakes in {seconds} s");
                now = end;
                continue;
            }
            255 => {
                client.release();
                assert_eq!(client.poll_timeout(), None);
                continue;
            }
        };
        understood |=
            pcp::Response::decode(&answer).is_ok() || nat_pmp::Response::decode(&answer).is_ok();
        client.handle_input(now, &answer);
        for given in [client.pcp(), client.nat_pmp()] {
            if let PortAnswer::Mapped(external) = given {
                assert!(external.port() != 0 && !external.ip().is_unspecified());
            }
        }
    }
    understood
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let external = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 9];
    let granted = [&[42][..], &piece(&[&[0x0f, 0xa2][..], &external].concat())].concat();
    let refused = [&[3][..], &piece(&[2])].concat();
    let version = [&[64][..], &piece(&[0, 129, 0, 1, 0, 0, 0, 9])].concat();
    let address = [&[64][..], &piece(&[0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 9])].concat();
    let mapped = [&[64][..], &piece(&nat_pmp_grant())].concat();
    vec![
        ("pcp", [&granted[..], &[137, 187], &granted, &[255]].concat()),
        ("refused", [&refused[..], &address, &[147]].concat()),
        ("nat_pmp", [&version[..], &address, &mapped, &[136], &address, &[255]].concat()),
    ]
}

fn nat_pmp_grant() -> Vec<u8> {
    let mut answer = nat_pmp::Request::Map { port: 4000, suggested: 4002, lifetime: 7200 }.encode();
    answer[1] |= 0x80;
    answer.splice(4..4, [0, 0, 0, 9]);
    answer
}
