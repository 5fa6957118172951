//! Who seals packets: the same choice for every command that moves them.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use warpline::{PacketCrypto, provider};
use warpline_qat::{Places, Qat, Unavailable, When, install};

/// Those who can seal packets, on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The fastest that works here, by measurement.
    #[default]
    Auto,
    /// The ring crate.
    Ring,
    /// The aws-lc-rs crate.
    AwsLc,
    /// The warpline-gcm crate; needs AVX-512, VAES and VPCLMULQDQ.
    WarplineGcm,
    /// An Intel QAT card, through qatlib.
    Qat,
}

/// The choice of who seals packets.
#[derive(Debug, Clone, Args)]
pub struct CryptoArgs {
    /// Who seals packets; what is named outright is used or the command fails.
    #[arg(long, value_enum, value_name = "WHO", default_value_t)]
    crypto: Name,
}

/// Who seals the packets of this process.
#[derive(Debug, Clone)]
pub struct CryptoChoice {
    /// What configurations say.
    pub crypto: PacketCrypto,
    /// How it came about.
    pub why: String,
    qat: Option<Qat>,
}

impl CryptoArgs {
    /// Tries what has to be tried. A process does so once.
    ///
    /// # Errors
    /// What was named does not work here, with the reason and, where there is one, the command that changes it.
    pub fn choose(&self) -> Result<CryptoChoice, String> {
        let crypto = match self.crypto {
            Name::Auto => return Ok(auto(install(&Places::default(), When::Faster))),
            Name::Qat => return qat(install(&Places::default(), When::Working)),
            Name::Ring => PacketCrypto::Ring,
            Name::AwsLc => PacketCrypto::AwsLc,
            Name::WarplineGcm => PacketCrypto::WarplineGcm,
        };
        provider::provider(crypto).map_err(|error| error.to_string())?;
        Ok(CryptoChoice { crypto, why: "as asked for".to_owned(), qat: None })
    }
}

type Tried = Result<warpline_qat::Installed, Unavailable>;

/// A card if it is faster, the fastest library otherwise.
fn auto(tried: Tried) -> CryptoChoice {
    match tried {
        Ok(installed) => with_card(installed, "faster than the processor, as measured"),
        Err(error) => {
            if error.has_card() {
                tracing::warn!("QAT is not used: {error}");
            }
            let why = format!("the fastest library, as measured; {error}");
            CryptoChoice { crypto: PacketCrypto::Auto.resolve(), why, qat: None }
        }
    }
}

fn qat(tried: Tried) -> Result<CryptoChoice, String> {
    match tried {
        Ok(installed) => Ok(with_card(installed, "as asked for")),
        Err(error) => Err(match error.remedy() {
            Some(command) => format!("{error}; this may help: {command}"),
            None => error.to_string(),
        }),
    }
}

fn with_card(installed: warpline_qat::Installed, why: &str) -> CryptoChoice {
    let trial = installed.trial;
    let (device, library) = (trial.device.as_nanos(), trial.library.as_nanos());
    let why = format!("{why} ({device} ns a packet, the processor takes {library})");
    CryptoChoice { crypto: PacketCrypto::Device, why, qat: Some(installed.qat) }
}

impl CryptoChoice {
    /// The name that it goes by in reports.
    pub fn name(&self) -> &'static str {
        match self.qat {
            Some(_) => "qat",
            None => self.crypto.name(),
        }
    }

    /// What the card's instances do now, for machines; `null` without a card.
    pub fn qat_report(&self) -> Value {
        let Some(status) = self.qat.as_ref().map(Qat::status) else { return Value::Null };
        json!({
            "instances": status.instances,
            "idle": status.idle,
            "given_up": status.given_up,
            "packets": status.packets,
            "batches_left": status.batches_left,
            "batch_min": status.batch_min,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        crypto: CryptoArgs,
    }

    fn choose(line: &str) -> Result<CryptoChoice, String> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        line.crypto.choose()
    }

    #[test]
    fn libraries_are_taken_by_their_names() {
        let ring = choose("x --crypto ring").expect("it runs everywhere");
        assert_eq!((ring.crypto, ring.name(), ring.qat_report()), (PacketCrypto::Ring, "ring", Value::Null));
        assert_eq!(choose("x --crypto aws-lc").expect("it runs everywhere").name(), "aws-lc-rs");
        choose("x --crypto rot13").expect_err("there is no such thing");
    }

    #[test]
    fn without_a_card_auto_is_a_library_and_says_so_and_qat_fails_with_the_reason_and_the_command() {
        let choice = auto(Err(Unavailable::NoCard));
        assert_eq!(choice.crypto, PacketCrypto::Auto.resolve());
        assert_eq!(choice.why, "the fastest library, as measured; no QAT card is in this machine");
        assert_eq!(qat(Err(Unavailable::NoCard)).expect_err("none"), "no QAT card is in this machine");
        let missing = Unavailable::NoDriver { card: "0000:6b:00.0".to_owned(), module: "qat_4xxx" };
        let expected = "QAT card 0000:6b:00.0 has no kernel driver; this may help: modprobe qat_4xxx";
        assert_eq!(qat(Err(missing)).expect_err("none"), expected);
    }
}
