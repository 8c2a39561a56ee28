//! The demo's simulated fleet: machines that publish their readings as JSON, with everything real ones do wrong.
//!
//! Each machine has its own mean, noise and slow drift; some overheat for a while. A few messages are malformed, carry
//! nulls or arrive late.

use std::f64::consts::TAU;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One machine.
#[derive(Debug, Clone)]
struct Machine {
    id: String,
    site: &'static str,
    /// °C.
    mean_temperature: f64,
    /// mm/s.
    mean_vibration: f64,
    /// Where it is in its daily swing, in radians.
    phase: f64,
    /// Readings left of an overheating spell.
    hot_readings: u32,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub key: String,
    pub payload: String,
}

/// All machines and their common source of chance.
pub struct Fleet {
    machines: Vec<Machine>,
    next: usize,
    random: StdRng,
}

const SITES: &[&str] = &["Hamburg", "Lyon", "Porto", "Turin"];
/// °C above the mean in an overheating spell.
const OVERHEATING: f64 = 35.0;
/// One in so many messages is malformed.
const MALFORMED_EVERY: u32 = 500;
/// One in so many readings has a null in it.
const NULL_EVERY: u32 = 100;
/// One in so many readings is late, by up to this many milliseconds.
const LATE_EVERY: u32 = 50;
const MAX_LATENESS_MS: i64 = 3_000;

impl Fleet {
    pub fn new(machines: usize, seed: u64) -> Fleet {
        let mut random = StdRng::seed_from_u64(seed);
        let machines = (0..machines)
            .map(|i| Machine {
                id: format!("machine-{:02}", i + 1),
                site: SITES[i % SITES.len()],
                mean_temperature: random.random_range(55.0..75.0),
                mean_vibration: random.random_range(1.0..4.0),
                phase: random.random_range(0.0..TAU),
                hot_readings: 0,
            })
            .collect();
        Fleet {
            machines,
            next: 0,
            random,
        }
    }

    /// The next machine's reading at `now_ms` (milliseconds since 1970).
    pub fn reading(&mut self, now_ms: i64) -> Message {
        let index = self.next;
        self.next = (index + 1) % self.machines.len();
        let random = &mut self.random;
        let machine = &mut self.machines[index];

        if machine.hot_readings > 0 {
            machine.hot_readings -= 1;
        } else if random.random_range(0..20_000) == 0 {
            machine.hot_readings = random.random_range(200..600);
        }
        machine.phase += 0.002;
        let heat = if machine.hot_readings > 0 {
            OVERHEATING
        } else {
            0.0
        };
        let noise = random.random_range(-1.0..1.0);
        let temperature = machine.mean_temperature + 4.0 * machine.phase.sin() + heat + noise;
        let vibration =
            (machine.mean_vibration + heat / 20.0 + random.random_range(-0.3..0.3)).max(0.0);
        let late_ms = match random.random_range(0..LATE_EVERY) {
            0 => random.random_range(0..MAX_LATENESS_MS),
            _ => 0,
        };

        let key = machine.id.clone();
        if random.random_range(0..MALFORMED_EVERY) == 0 {
            let payload =
                format!("{{\"machine_id\": \"{key}\", \"temperature\": {temperature:.1}, \"vibr");
            return Message { key, payload };
        }
        let temperature = match random.random_range(0..NULL_EVERY) {
            0 => "null".to_string(),
            _ => format!("{temperature:.2}"),
        };
        let payload = format!(
            "{{\"machine_id\": \"{key}\", \"site\": \"{}\", \"temperature\": {temperature}, \
             \"vibration\": {vibration:.3}, \"ts\": \"{}\"}}",
            machine.site,
            iso_time(now_ms - late_ms)
        );
        Message { key, payload }
    }
}

fn iso_time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_messages_are_readings_and_some_are_not() {
        let mut fleet = Fleet::new(50, 7);
        let mut malformed = 0;
        let mut nulls = 0;
        for i in 0..20_000 {
            let message = fleet.reading(1_700_000_000_000 + i);
            match serde_json::from_str::<serde_json::Value>(&message.payload) {
                Ok(reading) => {
                    assert_eq!(reading["machine_id"], message.key);
                    nulls += usize::from(reading["temperature"].is_null());
                }
                Err(_) => malformed += 1,
            }
        }
        assert!((10..100).contains(&malformed), "{malformed}");
        assert!((100..400).contains(&nulls), "{nulls}");
    }

    #[test]
    fn the_same_seed_gives_the_same_fleet() {
        let readings = |seed| {
            (0..100)
                .map(|i| Fleet::new(5, seed).reading(i))
                .collect::<Vec<_>>()
        };
        assert_eq!(readings(1), readings(1));
    }
}
