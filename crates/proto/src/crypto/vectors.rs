//! The sample packets of RFC 9001 appendix A and RFC 9369 appendix A, byte for byte as the texts have them, made and read by
//! every way that packets take here. The keys themselves are compared in [`schedule`](super::schedule).

use rustls::CipherSuite;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::quic::{DirectionalKeys, HeaderProtectionKey, Keys, Suite};
use warpline_gcm::Job;
use warpline_wire::header::{self, LongHeader, PacketKind, ShortFlags};
use warpline_wire::{ConnectionId, PacketNumber, Version, Writer};

use super::batch::PacketKey;
use super::keys::{KeyLimits, OneRttKeys};
use super::packet::{self, TAG_LEN};
use super::provider::{PacketCrypto, library_suites};
use super::retry;
use super::schedule::{Secret, SuiteParts, TrafficSecrets};
use super::session::{NextKeys, tls_version};

pub(super) const VERSIONS: [Version; 2] = [Version::V1, Version::V2];
const LIBRARIES: [PacketCrypto; 3] = [PacketCrypto::Ring, PacketCrypto::AwsLc, PacketCrypto::WarplineGcm];
const FREE: KeyLimits = KeyLimits { update_after: u64::MAX, forgeries: u64::MAX };

/// The client's first Destination Connection ID in all examples.
const DCID: &str = "8394c8f03e515708";
/// The server's Source Connection ID.
const SCID: &str = "f067a5502a4262b5";

/// What the samples of a version are.
pub(super) struct Samples {
    /// From `client_initial_secret` (A.1).
    pub(super) client: Derived,
    /// From `server_initial_secret`.
    pub(super) server: Derived,
    client_initial: &'static str,
    server_initial: &'static str,
    retry: &'static str,
    /// A.5.
    pub(super) chacha20: Derived,
    pub(super) ku: &'static str,
    pub(super) nonce: &'static str,
    short: &'static str,
}

/// A secret, and what the texts derive from it.
pub(super) struct Derived {
    pub(super) secret: &'static str,
    pub(super) key: &'static str,
    pub(super) iv: &'static str,
    pub(super) hp: &'static str,
}

/// The packet number of A.5.
pub(super) const SHORT_NUMBER: u64 = 654_360_564;

/// The secret of A.5, the same in both texts.
const CHACHA20_SECRET: &str = "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b";

/// The payload of the client's Initial packet before it is padded, the same in both texts (A.2).
const CLIENT_PAYLOAD: &str = "
    060040f1010000ed0303ebf8fa56f129 39b9584a3896472ec40bb863cfd3e868
    04fe3a47f06a2b69484c000004130113 02010000c000000010000e00000b6578
    616d706c652e636f6dff01000100000a 00080006001d00170018001000070005
    04616c706e0005000501000000000033 00260024001d00209370b2c9caa47fba
    baf4559fedba753de171fa71f50f1ce1 5d43e994ec74d748002b000302030400
    0d0010000e0403050306030203080408 050806002d00020101001c0002400100
    3900320408ffffffffffffffff050480 00ffff07048000ffff08011001048000
    75300901100f088394c8f03e51570806 048000ffff
";
/// The payload of the server's Initial packet, the same in both texts (A.3).
const SERVER_PAYLOAD: &str = "
    02000000000600405a020000560303ee fce7f7b37ba1d1632e96677825ddf739
    88cfc79825df566dc5430b9a045a1200 130100002e00330024001d00209d3c94
    0d89690b84d08a60993c144eca684d10 81287c834d5311bcf32bb9da1a002b00
    020304
";

/// RFC 9001.
const V1: Samples = Samples {
    client: Derived {
        secret: "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea",
        key: "1f369613dd76d5467730efcbe3b1a22d",
        iv: "fa044b2f42a3fd3b46fb255c",
        hp: "9f50449e04a0e810283a1e9933adedd2",
    },
    server: Derived {
        secret: "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b",
        key: "cf3a5331653c364c88f0f379b6067e37",
        iv: "0ac1493ca1905853b0bba03e",
        hp: "c206b8d9b9f0f37644430b490eeaa314",
    },
    client_initial: "
    c000000001088394c8f03e5157080000 449e7b9aec34d1b1c98dd7689fb8ec11
    d242b123dc9bd8bab936b47d92ec356c 0bab7df5976d27cd449f63300099f399
    1c260ec4c60d17b31f8429157bb35a12 82a643a8d2262cad67500cadb8e7378c
    8eb7539ec4d4905fed1bee1fc8aafba1 7c750e2c7ace01e6005f80fcb7df6212
    30c83711b39343fa028cea7f7fb5ff89 eac2308249a02252155e2347b63d58c5
    457afd84d05dfffdb20392844ae81215 4682e9cf012f9021a6f0be17ddd0c208
    4dce25ff9b06cde535d0f920a2db1bf3 62c23e596d11a4f5a6cf3948838a3aec
    4e15daf8500a6ef69ec4e3feb6b1d98e 610ac8b7ec3faf6ad760b7bad1db4ba3
    485e8a94dc250ae3fdb41ed15fb6a8e5 eba0fc3dd60bc8e30c5c4287e53805db
    059ae0648db2f64264ed5e39be2e20d8 2df566da8dd5998ccabdae053060ae6c
    7b4378e846d29f37ed7b4ea9ec5d82e7 961b7f25a9323851f681d582363aa5f8
    9937f5a67258bf63ad6f1a0b1d96dbd4 faddfcefc5266ba6611722395c906556
    be52afe3f565636ad1b17d508b73d874 3eeb524be22b3dcbc2c7468d54119c74
    68449a13d8e3b95811a198f3491de3e7 fe942b330407abf82a4ed7c1b311663a
    c69890f4157015853d91e923037c227a 33cdd5ec281ca3f79c44546b9d90ca00
    f064c99e3dd97911d39fe9c5d0b23a22 9a234cb36186c4819e8b9c5927726632
    291d6a418211cc2962e20fe47feb3edf 330f2c603a9d48c0fcb5699dbfe58964
    25c5bac4aee82e57a85aaf4e2513e4f0 5796b07ba2ee47d80506f8d2c25e50fd
    14de71e6c418559302f939b0e1abd576 f279c4b2e0feb85c1f28ff18f58891ff
    ef132eef2fa09346aee33c28eb130ff2 8f5b766953334113211996d20011a198
    e3fc433f9f2541010ae17c1bf202580f 6047472fb36857fe843b19f5984009dd
    c324044e847a4f4a0ab34f719595de37 252d6235365e9b84392b061085349d73
    203a4a13e96f5432ec0fd4a1ee65accd d5e3904df54c1da510b0ff20dcc0c77f
    cb2c0e0eb605cb0504db87632cf3d8b4 dae6e705769d1de354270123cb11450e
    fc60ac47683d7b8d0f811365565fd98c 4c8eb936bcab8d069fc33bd801b03ade
    a2e1fbc5aa463d08ca19896d2bf59a07 1b851e6c239052172f296bfb5e724047
    90a2181014f3b94a4e97d117b4381303 68cc39dbb2d198065ae3986547926cd2
    162f40a29f0c3c8745c0f50fba3852e5 66d44575c29d39a03f0cda721984b6f4
    40591f355e12d439ff150aab7613499d bd49adabc8676eef023b15b65bfc5ca0
    6948109f23f350db82123535eb8a7433 bdabcb909271a6ecbcb58b936a88cd4e
    8f2e6ff5800175f113253d8fa9ca8885 c2f552e657dc603f252e1a8e308f76f0
    be79e2fb8f5d5fbbe2e30ecadd220723 c8c0aea8078cdfcb3868263ff8f09400
    54da48781893a7e49ad5aff4af300cd8 04a6b6279ab3ff3afb64491c85194aab
    760d58a606654f9f4400e8b38591356f bf6425aca26dc85244259ff2b19c41b9
    f96f3ca9ec1dde434da7d2d392b905dd f3d1f9af93d1af5950bd493f5aa731b4
    056df31bd267b6b90a079831aaf579be 0a39013137aac6d404f518cfd4684064
    7e78bfe706ca4cf5e9c5453e9f7cfd2b 8b4c8d169a44e55c88d4a9a7f9474241
    e221af44860018ab0856972e194cd934
",
    server_initial: "
    cf000000010008f067a5502a4262b500 4075c0d95a482cd0991cd25b0aac406a
    5816b6394100f37a1c69797554780bb3 8cc5a99f5ede4cf73c3ec2493a1839b3
    dbcba3f6ea46c5b7684df3548e7ddeb9 c3bf9c73cc3f3bded74b562bfb19fb84
    022f8ef4cdd93795d77d06edbb7aaf2f 58891850abbdca3d20398c276456cbc4
    2158407dd074ee
",
    retry: "
    ff000000010008f067a5502a4262b574 6f6b656e04a265ba2eff4d829058fb3f
    0f2496ba
",
    chacha20: Derived {
        secret: CHACHA20_SECRET,
        key: "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
        iv: "e0459b3474bdd0e44a41c144",
        hp: "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
    },
    ku: "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9",
    nonce: "e0459b3474bdd0e46d417eb0",
    short: "4cfe4189655e5cd55c41f69080575d7999c25a5bfb",
};

/// RFC 9369.
const V2: Samples = Samples {
    client: Derived {
        secret: "14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b",
        key: "8b1a0bc121284290a29e0971b5cd045d",
        iv: "91f73e2351d8fa91660e909f",
        hp: "45b95e15235d6f45a6b19cbcb0294ba9",
    },
    server: Derived {
        secret: "0263db1782731bf4588e7e4d93b7463907cb8cd8200b5da55a8bd488eafc37c1",
        key: "82db637861d55e1d011f19ea71d5d2a7",
        iv: "dd13c276499c0249d3310652",
        hp: "edf6d05c83121201b436e16877593c3a",
    },
    client_initial: "
    d76b3343cf088394c8f03e5157080000 449ea0c95e82ffe67b6abcdb4298b485
    dd04de806071bf03dceebfa162e75d6c 96058bdbfb127cdfcbf903388e99ad04
    9f9a3dd4425ae4d0992cfff18ecf0fdb 5a842d09747052f17ac2053d21f57c5d
    250f2c4f0e0202b70785b7946e992e58 a59ac52dea6774d4f03b55545243cf1a
    12834e3f249a78d395e0d18f4d766004 f1a2674802a747eaa901c3f10cda5500
    cb9122faa9f1df66c392079a1b40f0de 1c6054196a11cbea40afb6ef5253cd68
    18f6625efce3b6def6ba7e4b37a40f77 32e093daa7d52190935b8da58976ff33
    12ae50b187c1433c0f028edcc4c2838b 6a9bfc226ca4b4530e7a4ccee1bfa2a3
    d396ae5a3fb512384b2fdd851f784a65 e03f2c4fbe11a53c7777c023462239dd
    6f7521a3f6c7d5dd3ec9b3f233773d4b 46d23cc375eb198c63301c21801f6520
    bcfb7966fc49b393f0061d974a2706df 8c4a9449f11d7f3d2dcbb90c6b877045
    636e7c0c0fe4eb0f697545460c806910 d2c355f1d253bc9d2452aaa549e27a1f
    ac7cf4ed77f322e8fa894b6a83810a34 b361901751a6f5eb65a0326e07de7c12
    16ccce2d0193f958bb3850a833f7ae43 2b65bc5a53975c155aa4bcb4f7b2c4e5
    4df16efaf6ddea94e2c50b4cd1dfe060 17e0e9d02900cffe1935e0491d77ffb4
    fdf85290fdd893d577b1131a610ef6a5 c32b2ee0293617a37cbb08b847741c3b
    8017c25ca9052ca1079d8b78aebd4787 6d330a30f6a8c6d61dd1ab5589329de7
    14d19d61370f8149748c72f132f0fc99 f34d766c6938597040d8f9e2bb522ff9
    9c63a344d6a2ae8aa8e51b7b90a4a806 105fcbca31506c446151adfeceb51b91
    abfe43960977c87471cf9ad4074d30e1 0d6a7f03c63bd5d4317f68ff325ba3bd
    80bf4dc8b52a0ba031758022eb025cdd 770b44d6d6cf0670f4e990b22347a7db
    848265e3e5eb72dfe8299ad7481a4083 22cac55786e52f633b2fb6b614eaed18
    d703dd84045a274ae8bfa73379661388 d6991fe39b0d93debb41700b41f90a15
    c4d526250235ddcd6776fc77bc97e7a4 17ebcb31600d01e57f32162a8560cacc
    7e27a096d37a1a86952ec71bd89a3e9a 30a2a26162984d7740f81193e8238e61
    f6b5b984d4d3dfa033c1bb7e4f0037fe bf406d91c0dccf32acf423cfa1e70710
    10d3f270121b493ce85054ef58bada42 310138fe081adb04e2bd901f2f13458b
    3d6758158197107c14ebb193230cd115 7380aa79cae1374a7c1e5bbcb80ee23e
    06ebfde206bfb0fcbc0edc4ebec30966 1bdd908d532eb0c6adc38b7ca7331dce
    8dfce39ab71e7c32d318d136b6100671 a1ae6a6600e3899f31f0eed19e3417d1
    34b90c9058f8632c798d4490da498730 7cba922d61c39805d072b589bd52fdf1
    e86215c2d54e6670e07383a27bbffb5a ddf47d66aa85a0c6f9f32e59d85a44dd
    5d3b22dc2be80919b490437ae4f36a0a e55edf1d0b5cb4e9a3ecabee93dfc6e3
    8d209d0fa6536d27a5d6fbb17641cde2 7525d61093f1b28072d111b2b4ae5f89
    d5974ee12e5cf7d5da4d6a31123041f3 3e61407e76cffcdcfd7e19ba58cf4b53
    6f4c4938ae79324dc402894b44faf8af bab35282ab659d13c93f70412e85cb19
    9a37ddec600545473cfb5a05e08d0b20 9973b2172b4d21fb69745a262ccde96b
    a18b2faa745b6fe189cf772a9f84cbfc
",
    server_initial: "
    dc6b3343cf0008f067a5502a4262b500 4075d92faaf16f05d8a4398c47089698
    baeea26b91eb761d9b89237bbf872630 17915358230035f7fd3945d88965cf17
    f9af6e16886c61bfc703106fbaf3cb4c fa52382dd16a393e42757507698075b2
    c984c707f0a0812d8cd5a6881eaf21ce da98f4bd23f6fe1a3e2c43edd9ce7ca8
    4bed8521e2e140
",
    retry: "
    cf6b3343cf0008f067a5502a4262b574 6f6b656ec8646ce8bfe33952d9555436
    65dcc7b6
",
    chacha20: Derived {
        secret: CHACHA20_SECRET,
        key: "3bfcddd72bcf02541d7fa0dd1f5f9eeea817e09a6963a0e6c7df0f9a1bab90f2",
        iv: "a6b5bc6ab7dafce30ffff5dd",
        hp: "d659760d2ba434a226fd37b35c69e2da8211d10c4f12538787d65645d5d1b8e2",
    },
    ku: "c69374c49e3d2a9466fa689e49d476db5d0dfbc87d32ceeaa6343fd0ae4c7d88",
    nonce: "a6b5bc6ab7dafce328ff4a29",
    short: "5558b1c60ae7b6b932bc27d786f4bc2bb20f2162ba",
};

pub(super) fn samples(version: Version) -> &'static Samples {
    if version == Version::V2 { &V2 } else { &V1 }
}

/// Bytes from hexadecimal digits, which may be set in groups and lines.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

fn id(text: &str) -> ConnectionId {
    ConnectionId::new(&hex(text)).unwrap()
}

/// A packet that is not protected yet.
struct Plain {
    bytes: Vec<u8>,
    pn_at: usize,
    pn_len: usize,
    number: u64,
}

impl Plain {
    /// An Initial packet with this payload and room for the tag.
    fn initial(version: Version, ids: [ConnectionId; 2], (number, pn_len): (u64, usize), payload: &[u8]) -> Self {
        let [dcid, scid] = ids;
        let header = LongHeader { kind: PacketKind::Initial, version, dcid, scid, token: &[] };
        let mut bytes = vec![0; header.encoded_len(pn_len) + payload.len() + TAG_LEN];
        let mut w = Writer::new(&mut bytes);
        let layout = header.encode(&mut w, number, pn_len);
        w.slice(payload);
        w.patch_varint2(layout.length_at, (pn_len + payload.len() + TAG_LEN) as u64);
        Self { bytes, pn_at: layout.pn_at, pn_len, number }
    }

    fn client_initial(version: Version) -> Self {
        let mut payload = hex(CLIENT_PAYLOAD);
        payload.resize(1_162, 0);
        Self::initial(version, [id(DCID), ConnectionId::EMPTY], (2, 4), &payload)
    }

    fn server_initial(version: Version) -> Self {
        Self::initial(version, [ConnectionId::EMPTY, id(SCID)], (1, 2), &hex(SERVER_PAYLOAD))
    }

    /// The PING of A.5.
    fn short() -> Self {
        let (number, pn_len) = (SHORT_NUMBER, 3);
        let mut bytes = vec![0; 1 + pn_len + 1 + TAG_LEN];
        let mut w = Writer::new(&mut bytes);
        let flags = ShortFlags { spin: false, key_phase: false, fixed_bit: true };
        let pn_at = header::encode_short(&mut w, &ConnectionId::EMPTY, flags, number, pn_len);
        w.u8(1);
        Self { bytes, pn_at, pn_len, number }
    }

    fn header_len(&self) -> usize {
        self.pn_at + self.pn_len
    }

    /// What it becomes, as the handshake's packets are sealed.
    fn sealed(&self, keys: &DirectionalKeys) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        packet::seal(&*keys.packet, &*keys.header, &mut bytes, self.pn_at, (self.number, self.pn_len));
        bytes
    }

    /// What it becomes, as the packets of 1-RTT are sealed.
    fn sealed_in_batch(&self, key: &PacketKey, mask: &dyn HeaderProtectionKey) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        key.seal(&mut [Job::new(&mut bytes, self.header_len(), self.number)]);
        packet::protect(mask, &mut bytes, self.pn_at, self.pn_len);
        bytes
    }

    /// Takes the mask off `sealed`, and compares what is under it.
    fn unmasked(&self, mask: &dyn HeaderProtectionKey, sealed: &[u8]) -> Vec<u8> {
        let parsed = header::parse(sealed, 0).unwrap();
        assert_eq!((parsed.pn_offset, parsed.packet_len), (self.pn_at, sealed.len()));
        let mut bytes = sealed.to_vec();
        let (first, truncated, pn_len) = packet::unmask(mask, &mut bytes, parsed.pn_offset).unwrap();
        let number = PacketNumber::expand(truncated, pn_len, Some(self.number - 1)).0;
        assert_eq!((first, number, pn_len), (self.bytes[0], self.number, self.pn_len));
        assert_eq!(bytes[..self.header_len()], self.bytes[..self.header_len()]);
        bytes
    }

    fn payload(&self) -> &[u8] {
        &self.bytes[self.header_len()..self.bytes.len() - TAG_LEN]
    }

    /// Checks that `sealed` is this packet, and that with a wrong bit it is none.
    fn check_opens(&self, keys: &DirectionalKeys, sealed: &[u8]) {
        let mut bytes = self.unmasked(&*keys.header, sealed);
        let mut damaged = bytes.clone();
        let len = packet::open(&*keys.packet, &mut bytes, self.header_len(), self.number).unwrap();
        assert_eq!(&bytes[self.header_len()..self.header_len() + len], self.payload());
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(packet::open(&*keys.packet, &mut damaged, self.header_len(), self.number), None);
    }

    /// The same as the packets of 1-RTT are opened.
    fn check_opens_in_batch(&self, key: &PacketKey, mask: &dyn HeaderProtectionKey, sealed: &[u8]) {
        let mut bytes = self.unmasked(mask, sealed);
        let mut damaged = bytes.clone();
        damaged[self.header_len()] ^= 1;
        let header_len = self.header_len();
        let mut jobs = [Job::new(&mut bytes, header_len, self.number), Job::new(&mut damaged, header_len, self.number)];
        key.open(&mut jobs);
        assert_eq!((jobs[0].is_done, jobs[1].is_done), (true, false));
        assert_eq!(&bytes[header_len..header_len + self.payload().len()], self.payload());
    }
}

/// The suites of this kind, of every library that runs here.
fn suites(kind: CipherSuite) -> Vec<(PacketCrypto, Suite)> {
    let of = |library| {
        let found = library_suites(library).into_iter().find(|suite| suite.suite() == kind)?;
        Some((library, found.tls13()?.quic_suite()?))
    };
    let found: Vec<_> = LIBRARIES.into_iter().filter_map(of).collect();
    assert!(found.len() >= 2, "two libraries run everywhere");
    if found.len() < LIBRARIES.len() {
        eprintln!("skipped for warpline-gcm: this processor lacks AVX-512, VAES or VPCLMULQDQ");
    }
    found
}

/// Secrets of this side and the other, for the keys that this crate derives itself.
fn own(version: Version, suite: CipherSuite, [local, remote]: [&str; 2]) -> TrafficSecrets {
    let secret = |text| Secret::new(&hex(text)).unwrap();
    let parts = SuiteParts::of(suite).unwrap();
    TrafficSecrets { parts, version, local: secret(local), remote: secret(remote) }
}

/// A.2 and A.3 by the keys of a client and of a server.
fn check_initials(version: Version, client: Keys, server: Keys) {
    let samples = samples(version);
    let packets = [
        (Plain::client_initial(version), samples.client_initial, client.local, server.remote),
        (Plain::server_initial(version), samples.server_initial, server.local, client.remote),
    ];
    for (plain, text, sealing, opening) in packets {
        let expected = hex(text);
        assert_eq!(plain.sealed(&sealing), expected);
        plain.check_opens(&opening, &expected);
        let (sealing_mask, sealing) = (sealing.header, PacketKey::new(sealing.packet));
        let (opening_mask, opening) = (opening.header, PacketKey::new(opening.packet));
        assert_eq!(plain.sealed_in_batch(&sealing, &*sealing_mask), expected);
        plain.check_opens_in_batch(&opening, &*opening_mask, &expected);
    }
}

/// RFC 9001 and RFC 9369, A.2 and A.3: from the client's first Destination Connection ID on, by every library.
#[test]
fn the_initial_packets_of_both_versions_by_every_library() {
    for version in VERSIONS {
        for (_, suite) in suites(CipherSuite::TLS13_AES_128_GCM_SHA256) {
            let keys = |side| suite.keys(&hex(DCID), side, tls_version(version));
            check_initials(version, keys(rustls::Side::Client), keys(rustls::Side::Server));
        }
    }
}

/// The same from the secrets of A.1 on, by the labels and ciphers of this crate's own schedule.
#[test]
fn the_initial_packets_of_both_versions_by_the_own_schedule() {
    for version in VERSIONS {
        let [client, server] = [samples(version).client.secret, samples(version).server.secret];
        let keys = |secrets| own(version, CipherSuite::TLS13_AES_128_GCM_SHA256, secrets).keys();
        check_initials(version, keys([client, server]), keys([server, client]));
    }
}

/// RFC 9001 and RFC 9369, A.4.
#[test]
fn the_retry_packets_of_both_versions() {
    for version in VERSIONS {
        let expected = hex(samples(version).retry);
        let mut bytes = vec![0; expected.len() - retry::TAG_LEN];
        header::encode_retry(&mut Writer::new(&mut bytes), version, &ConnectionId::EMPTY, &id(SCID), b"token");
        // The first byte's last four bits are free; the samples have all of them set.
        assert_eq!(bytes[0] & 0xf0, expected[0] & 0xf0);
        bytes[0] = expected[0];
        let mut pseudo = header::retry_pseudo_packet(&id(DCID), &bytes);
        bytes.extend_from_slice(&retry::tag(version, &pseudo));
        assert_eq!(bytes, expected);
        pseudo[0] ^= 1;
        assert_ne!(retry::tag(version, &pseudo)[..], expected[expected.len() - retry::TAG_LEN..]);
    }
}

/// RFC 9001 and RFC 9369, A.5: the key, IV and header protection key of the texts, by every library.
#[test]
fn the_short_packets_with_chacha20_of_both_versions_by_every_library() {
    for version in VERSIONS {
        let Derived { key, iv, hp, .. } = samples(version).chacha20;
        let (plain, expected) = (Plain::short(), hex(samples(version).short));
        for (_, suite) in suites(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) {
            let keys = DirectionalKeys {
                packet: suite.quic.packet_key(AeadKey::from(array(key)), Iv::from(array::<12>(iv))),
                header: suite.quic.header_protection_key(AeadKey::from(array(hp))),
            };
            assert_eq!(plain.sealed(&keys), expected);
            plain.check_opens(&keys, &expected);
            let (mask, key) = (keys.header, PacketKey::new(keys.packet));
            assert_eq!(plain.sealed_in_batch(&key, &*mask), expected);
            plain.check_opens_in_batch(&key, &*mask, &expected);
        }
    }
}

/// The same from the secret on, by the keys that a connection has for 1-RTT.
#[test]
fn the_short_packets_with_chacha20_of_both_versions_by_a_connections_keys() {
    for version in VERSIONS {
        let keys = || {
            let secrets = [CHACHA20_SECRET; 2];
            let mut secrets = own(version, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, secrets);
            let keys = secrets.keys();
            secrets.update();
            OneRttKeys::new(keys, NextKeys::Own(Box::new(secrets)), FREE)
        };
        let (mut sealing, mut opening) = (keys(), keys());
        let (plain, expected) = (Plain::short(), hex(samples(version).short));
        let mut sealed = plain.bytes.clone();
        sealing.seal(&mut sealed, plain.pn_at, (plain.number, plain.pn_len));
        assert_eq!(sealed, expected);
        let mut bytes = plain.unmasked(opening.remote_header(), &expected);
        let opened = opening.open(false, &mut bytes, plain.header_len(), plain.number).unwrap();
        assert_eq!(&bytes[plain.header_len()..plain.header_len() + opened.payload_len], plain.payload());
    }
}
