//! Judges whether a run met the scenario's expectations.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    measured::Measured,
    record::ExpectationRecord,
    rules,
    scenario::{Cast, Expectation, Instruction, ScenarioNames},
    units::Span,
};

/// Every limit of every expectation, then every order and every rule, each with how it turned out.
pub(crate) fn judge(cast: &Cast, measured: &Measured) -> Vec<ExpectationRecord> {
    let expectations = cast.scenario.expect.iter();
    let expected = expectations.flat_map(|it| Judge::new(cast, measured, it).judge());
    let orders = cast.orders.iter().enumerate().map(|it| order(cast, measured, it));
    expected.chain(orders).chain(rules::judge(cast, measured)).collect()
}

/// Judges whether an order was carried out, or refused as expected.
fn order(
    cast: &Cast,
    measured: &Measured,
    (place, order): (usize, &Instruction),
) -> ExpectationRecord {
    let name = &cast.actors[order.member].name;
    let at = order.at.as_secs_f64();
    let (expected, answer) = (&order.refused, measured.order(place));
    let ending = match expected {
        Some(words) => format!(" is refused with {words:?}"),
        None => " is carried out".to_owned(),
    };
    ExpectationRecord {
        text: format!("{name} at {at} s: {}{ending}", order.text),
        holds: match (expected, answer) {
            (None, Some(Ok(()))) => true,
            (Some(words), Some(Err(reason))) => reason.contains(words),
            _ => false,
        },
        measured: match answer {
            Some(Ok(())) => "it is carried out".to_owned(),
            Some(Err(reason)) => reason.clone(),
            None => "it is not answered".to_owned(),
        },
    }
}

struct Judge<'a> {
    measured: &'a Measured,
    expectation: &'a Expectation,
    names: Vec<&'a str>,
    pairs: Vec<(usize, usize)>,
    after: Duration,
    before: Duration,
}

impl<'a> Judge<'a> {
    fn new(cast: &'a Cast, measured: &'a Measured, expectation: &'a Expectation) -> Self {
        let names: Vec<&str> = cast.actors.iter().map(|actor| actor.name.as_str()).collect();
        let listeners = places(expectation.listener.as_ref(), &names, |_| true);
        let speaks = |member: usize| !cast.actors[member].script.is_empty();
        let talkers = places(expectation.talker.as_ref(), &names, speaks);
        let pairs = listeners
            .iter()
            .flat_map(|listener| talkers.iter().map(|talker| (*listener, *talker)))
            .filter(|(listener, talker)| listener != talker)
            .collect();
        let after = expectation.after.as_duration();
        let before = expectation.before.unwrap_or(cast.scenario.duration).as_duration();
        Self { measured, expectation, names, pairs, after, before }
    }

    fn judge(&self) -> Vec<ExpectationRecord> {
        let expectation = self.expectation;
        let mut records = Vec::new();
        if let Some(most) = expectation.concealed {
            records.push(self.at_most(
                "conceals at most",
                &percent(most.as_f64()),
                percent,
                |l, t| {
                    let hearing = self.hearing(l, t);
                    (hearing.concealed_share(), hearing.concealed_share() <= most.as_f64())
                },
            ));
        }
        if let Some(most) = expectation.silence {
            let limit = most.as_duration();
            records.push(self.at_most(
                "is silent for at most",
                &most.to_string(),
                seconds,
                |l, t| {
                    let silence = self.hearing(l, t).longest_silence;
                    (silence.as_secs_f64(), silence <= limit)
                },
            ));
        }
        let delays = [(expectation.delay, 50.0, "median"), (expectation.delay_p99, 99.0, "99th")];
        for (most, rank, word) in delays {
            let Some(most) = most else { continue };
            let limit_ms = most.as_duration().as_secs_f64() * 1e3;
            let text = format!("hears within ({word})");
            records.push(self.at_most(&text, &most.to_string(), milliseconds, |l, t| {
                let delays = self.measured.delays(l, t, self.after, self.before);
                let delay = hark_node::measure::percentile(&delays, rank).unwrap_or(f64::INFINITY);
                (delay, delay <= limit_ms)
            }));
        }
        if let Some(most) = expectation.buffer {
            let limit_ms = most.as_duration().as_secs_f64() * 1e3;
            records.push(self.at_most(
                "holds at the end",
                &most.to_string(),
                milliseconds,
                |l, t| {
                    let held = self.measured.buffer_ms(l, t);
                    (held, held <= limit_ms)
                },
            ));
        }
        if let Some(least) = expectation.heard {
            records.push(self.at_least(
                "hears at least",
                &percent(least.as_f64()),
                percent,
                |l, t| {
                    let share = self.hearing(l, t).heard_share();
                    (share, share >= least.as_f64())
                },
            ));
        }
        if let Some(hears) = expectation.hears {
            let text = if hears { "hears something" } else { "hears nothing" };
            let frames = |value: f64| format!("{value} frames");
            let worst = if hears { Self::at_least } else { Self::at_most };
            records.push(worst(self, text, "", frames, |l, t| {
                let played = self.hearing(l, t).played;
                (played as f64, (played > 0) == hears)
            }));
        }
        if let Some(most) = expectation.connected_within {
            let limit = most.as_duration();
            records.push(self.at_most(
                "is connected within",
                &most.to_string(),
                seconds,
                |l, t| {
                    let time = self.measured.connect_time(l, t);
                    (
                        time.map_or(f64::INFINITY, |t| t.as_secs_f64()),
                        time.is_some_and(|t| t <= limit),
                    )
                },
            ));
        }
        if let Some(paths) = &expectation.path {
            records.extend(self.paths(paths.get_ref().list()));
        }
        if let Some(through) = &expectation.through {
            records.push(self.same_set("heard through", through, |l, t| {
                self.measured.ways(l, t, self.after, self.before)
            }));
        }
        if let Some(most) = expectation.lost {
            let frames = |value: f64| format!("{value} frames");
            records.push(self.at_most("lacks at most", &frames(most.into()), frames, |l, t| {
                let hearing = self.hearing(l, t);
                let lost = hearing.sent as f64 - hearing.received as f64;
                (lost, lost <= most.into())
            }));
        }
        if let Some(most) = expectation.forged {
            let frames = |value: f64| format!("{value} frames");
            let text = "takes beyond what was sent at most";
            records.push(self.at_most(text, &frames(most.into()), frames, |l, t| {
                let hearing = self.hearing(l, t);
                let forged = (hearing.received as f64 - hearing.sent as f64).max(0.0);
                (forged, forged <= most.into())
            }));
        }
        if let Some(flags) = &expectation.flags {
            records.push(self.flags(flags.relay.get_ref(), flags.by));
        }
        let (on, time) = (expectation.on.as_deref(), (self.after, self.before));
        let of = on.map_or(String::new(), |net| format!(" on {net}"));
        if let Some(could) = expectation.could_open {
            let text = format!("could open {}{of}", if could { "all" } else { "nothing" });
            let worst = if could { Self::at_least } else { Self::at_most };
            records.push(worst(self, &text, "", percent, |l, t| {
                let (opened, all) = self.measured.evidence().could_open((l, t), on, time);
                let holds = all > 0 && opened == if could { all } else { 0 };
                (opened as f64 / all.max(1) as f64, holds)
            }));
        }
        if let Some(sent) = expectation.sent {
            let text = format!("is sent {}{of}", if sent { "something" } else { "nothing" });
            let worst = if sent { Self::at_least } else { Self::at_most };
            records.push(worst(self, &text, "", seconds, |l, t| {
                let sent_for = self.measured.evidence().was_sent((l, t), on, time);
                (sent_for.as_secs_f64(), sent_for.is_zero() != sent)
            }));
        }
        let per_frame = [(expectation.uplink, false), (expectation.downlink, true)];
        for (most, down) in per_frame {
            let Some(most) = most else { continue };
            let text = if down { "each frame comes at most" } else { "each frame is sent at most" };
            records.push(self.at_most(text, &times(most), times, |l, t| {
                let listener = down.then_some(l);
                let value = self.measured.per_frame(listener, t, self.after, self.before);
                (value, value <= most)
            }));
        }
        if let Some(converged) = expectation.converged {
            let missing = self.measured.missing_at(converged.by.as_duration());
            records.push(ExpectationRecord {
                text: format!(
                    "all who run are connected, and each key is held by those it reaches, by {}",
                    converged.by
                ),
                holds: missing.is_empty(),
                measured: if missing.is_empty() { "they are".to_owned() } else { few(missing) },
            });
        }
        if let Some(nets) = &expectation.nets {
            records.push(self.on_nets(nets));
        }
        if let Some(charter) = expectation.charter {
            records.push(self.same_charter(charter.by));
        }
        if let Some(reachable) = expectation.reachable {
            records.extend(self.reachable(reachable));
        }
        if let Some(words) = &expectation.ends_with {
            records.extend(self.ends_with(words));
        }
        records
    }

    fn paths(&self, paths: &[String]) -> Vec<ExpectationRecord> {
        let wrong = self.pairs.iter().filter_map(|(l, t)| {
            let path = self.measured.path(*l, *t);
            let path = if path.is_empty() { "none" } else { path };
            let is_wrong = !paths.iter().any(|it| it == path);
            is_wrong.then(|| format!("{} from {}: {path}", self.names[*l], self.names[*t]))
        });
        let wrong: Vec<_> = wrong.collect();
        let path = paths.join(" or ");
        let mut records = vec![ExpectationRecord {
            text: format!("{} by the path {path}", self.who()),
            holds: wrong.is_empty() && !self.pairs.is_empty(),
            measured: if wrong.is_empty() { "all".to_owned() } else { few(&wrong) },
        }];
        if let Some(within) = self.expectation.path_within {
            let text = format!("has the path {path} within");
            records.push(self.at_most(&text, &within.to_string(), seconds, |l, t| {
                let time = self.measured.path_time(l, t, paths);
                let time = time.map_or(f64::INFINITY, |time| time.as_secs_f64());
                (time, time <= within.as_duration().as_secs_f64())
            }));
        }
        records
    }

    fn on_nets(&self, nets: &BTreeSet<String>) -> ExpectationRecord {
        self.same_set("on the nets", nets, |l, t| self.measured.nets(l, t, self.after, self.before))
    }

    /// Judges that `found` returns exactly the set `wanted` for each pair.
    fn same_set(
        &self,
        what: &str,
        wanted: &BTreeSet<String>,
        found: impl Fn(usize, usize) -> BTreeSet<String>,
    ) -> ExpectationRecord {
        let told = |nets: &BTreeSet<String>| match nets.is_empty() {
            true => "none".to_owned(),
            false => nets.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        let wrong = self.pairs.iter().filter_map(|(l, t)| {
            let found = found(*l, *t);
            let pair = || format!("{} from {}: {}", self.names[*l], self.names[*t], told(&found));
            (found != *wanted).then(pair)
        });
        let wrong: Vec<_> = wrong.collect();
        ExpectationRecord {
            text: format!("{} {what} {}{}", self.who(), told(wanted), self.when()),
            holds: wrong.is_empty() && !self.pairs.is_empty(),
            measured: if wrong.is_empty() { "all".to_owned() } else { few(&wrong) },
        }
    }

    fn same_charter(&self, by: Span) -> ExpectationRecord {
        let members = places(self.expectation.listener.as_ref(), &self.names, |_| true);
        let charters = self.measured.charters_at(by.as_duration());
        let charters: Vec<_> = charters.filter(|(member, _)| members.contains(member)).collect();
        let first = charters.first();
        let wrong = charters.iter().filter_map(|(member, charter)| {
            let (name, (other, expected)) = (self.names[*member], first?);
            match charter {
                None => Some(format!("{name} has told of no charter")),
                charter if charter == expected => None,
                _ => Some(format!("{name} has another charter than {}", self.names[*other])),
            }
        });
        let wrong: Vec<_> = wrong.collect();
        let who = self.expectation.listener.as_ref().map(|names| format!(" of {names}"));
        ExpectationRecord {
            text: format!("all{} who run have the same charter by {by}", who.unwrap_or_default()),
            holds: wrong.is_empty() && !charters.is_empty(),
            measured: match (wrong.as_slice(), charters.len()) {
                ([], count) => format!("{count} have"),
                (wrong, _) => few(wrong),
            },
        }
    }

    fn flags(&self, relay: &str, by: Span) -> ExpectationRecord {
        let members = places(self.expectation.listener.as_ref(), &self.names, |_| true);
        let wrong = members.iter().filter_map(|member| {
            let flagged = self.measured.flagged(*member);
            let right =
                |(at, it): &(Duration, usize)| *at <= by.as_duration() && self.names[*it] == relay;
            let name = self.names[*member];
            match flagged {
                [] => Some(format!("{name}: nobody")),
                all if all.iter().all(right) => None,
                all => {
                    let told = all.iter().map(|(at, it)| {
                        format!("{} at {:.2} s", self.names[*it], at.as_secs_f64())
                    });
                    Some(format!("{name}: {}", told.collect::<Vec<_>>().join(", ")))
                }
            }
        });
        let wrong: Vec<_> = wrong.collect();
        let who = self.expectation.listener.as_ref().map_or("all".to_owned(), ToString::to_string);
        ExpectationRecord {
            text: format!("{who}: found out by {by} that {relay} forges"),
            holds: wrong.is_empty() && !members.is_empty(),
            measured: if wrong.is_empty() { "all".to_owned() } else { few(&wrong) },
        }
    }

    fn reachable(&self, wanted: bool) -> impl Iterator<Item = ExpectationRecord> + use<'_> {
        let text = |reachable| if reachable { "is reached by strangers" } else { "is not reached" };
        let listeners = places(self.expectation.listener.as_ref(), &self.names, |_| true);
        listeners.into_iter().map(move |member| {
            let found = self.measured.reachable(member);
            ExpectationRecord {
                text: format!("{} {}", self.names[member], text(wanted)),
                holds: found == Some(wanted),
                measured: found.map_or("nobody could say", text).to_owned(),
            }
        })
    }

    fn ends_with(&self, words: &'a str) -> impl Iterator<Item = ExpectationRecord> + use<'_, 'a> {
        let listeners = places(self.expectation.listener.as_ref(), &self.names, |_| true);
        listeners.into_iter().map(move |member| {
            let last_words = self.measured.last_words(member);
            ExpectationRecord {
                text: format!("{} ends with {words:?}", self.names[member]),
                holds: last_words.is_some_and(|last| last.contains(words)),
                measured: last_words.unwrap_or("it still runs").to_owned(),
            }
        })
    }

    fn hearing(&self, listener: usize, talker: usize) -> crate::measured::Hearing {
        self.measured.hearing(listener, talker, self.after, self.before)
    }

    /// Judges that all pairs stay within the limit, and reports the largest value.
    fn at_most(
        &self,
        verb: &str,
        limit: &str,
        show: impl Fn(f64) -> String,
        value: impl Fn(usize, usize) -> (f64, bool),
    ) -> ExpectationRecord {
        self.worst(verb, limit, show, value, 1.0)
    }

    /// Judges that all pairs reach the limit, and reports the smallest value.
    fn at_least(
        &self,
        verb: &str,
        limit: &str,
        show: impl Fn(f64) -> String,
        value: impl Fn(usize, usize) -> (f64, bool),
    ) -> ExpectationRecord {
        self.worst(verb, limit, show, value, -1.0)
    }

    fn worst(
        &self,
        verb: &str,
        limit: &str,
        show: impl Fn(f64) -> String,
        value: impl Fn(usize, usize) -> (f64, bool),
        sign: f64,
    ) -> ExpectationRecord {
        let values = self.pairs.iter().map(|(listener, talker)| {
            let (value, holds) = value(*listener, *talker);
            (value, holds, *listener, *talker)
        });
        let values: Vec<_> = values.collect();
        let worst = values
            .iter()
            .max_by(|a, b| (!a.1).cmp(&!b.1).then((sign * a.0).total_cmp(&(sign * b.0))));
        let measured = worst.map_or("nobody speaks to anybody".to_owned(), |worst| {
            let (listener, talker) = (self.names[worst.2], self.names[worst.3]);
            format!("{} ({listener} from {talker})", show(worst.0))
        });
        let text = format!("{} {verb} {limit}{}", self.who(), self.when());
        ExpectationRecord {
            text: text.trim_end().to_owned(),
            holds: worst.is_some_and(|worst| worst.1),
            measured,
        }
    }

    fn who(&self) -> String {
        let name = |names: &Option<ScenarioNames>| {
            names.as_ref().map_or("all".to_owned(), ToString::to_string)
        };
        format!("{} from {}:", name(&self.expectation.listener), name(&self.expectation.talker))
    }

    fn when(&self) -> String {
        let mut text = String::new();
        if !self.after.is_zero() {
            text.push_str(&format!(" after {}", self.expectation.after));
        }
        if let Some(before) = self.expectation.before {
            text.push_str(&format!(" until {before}"));
        }
        text
    }
}

fn places(
    names: Option<&ScenarioNames>,
    all: &[&str],
    default: impl Fn(usize) -> bool,
) -> Vec<usize> {
    match names {
        Some(names) => names.places(all),
        None => (0..all.len()).filter(|place| default(*place)).collect(),
    }
}

fn percent(share: f64) -> String {
    let text = format!("{:.2}", 100.0 * share);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn times(value: f64) -> String {
    format!("{value:.2} times")
}

fn seconds(value: f64) -> String {
    if value.is_finite() { format!("{value:.2} s") } else { "never".to_owned() }
}

fn milliseconds(value: f64) -> String {
    if value.is_finite() { format!("{value:.1} ms") } else { "not at all".to_owned() }
}

pub(crate) fn few(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    }
}
