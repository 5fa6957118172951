//! The library, set up for one role.

use std::ffi::CString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use msquic::ffi::{self, HQUIC, QUIC_SETTINGS};
use msquic::{
    Addr, AllowedCipherSuiteFlags, BufferRef, CertificateFile, Configuration, Credential, CredentialConfig,
    CredentialFlags, ExecutionProfile, Listener, ListenerEvent, Registration, RegistrationConfig, Status,
};
use warpline_peer_kit::{ALPN, Result, SERVER_NAME};

use super::connection::{self, ConnectionHandler, Remote};
use super::setup::{self, Setup};
use super::{api, check};

/// msquic with one worker, one registration and one configuration. It is for the whole process: there is one at a time.
pub struct Endpoint {
    // In the order of their ends.
    configuration: Configuration,
    registration: Registration,
}

impl Endpoint {
    /// A server with this certificate chain and key, both PEM.
    ///
    /// # Errors
    ///
    /// If msquic does not have what is asked for, or a file is not what it should be.
    pub fn server(setup: &Setup, cert: &Path, key: &Path) -> Result<Self> {
        let file = CertificateFile::new(path(key)?, path(cert)?);
        let credential = CredentialConfig::new().set_credential(Credential::CertificateFile(file));
        // What its documentation recommends where nothing is known of the load, and its default.
        Self::new(setup, ExecutionProfile::LowLatency, credential)
    }

    /// A client that trusts this certificate, PEM.
    ///
    /// # Errors
    ///
    /// As [`server`](Self::server).
    pub fn client(setup: &Setup, profile: ExecutionProfile, ca: &Path) -> Result<Self> {
        Self::new(setup, profile, CredentialConfig::new_client().set_ca_certificate_file(path(ca)?))
    }

    fn new(setup: &Setup, profile: ExecutionProfile, credential: CredentialConfig) -> Result<Self> {
        let settings = setup.settings()?;
        setup::use_one_worker()?;
        setup::refuse_nobody()?;
        let config = RegistrationConfig::new().set_app_name("perf".to_owned()).set_execution_profile(profile);
        let registration = Registration::new(&config).map_err(|status| failed("registration", &status))?;
        let configuration = configuration(&registration, &settings)?;
        let credential = credential
            .set_credential_flags(CredentialFlags::NONE)
            .set_allowed_cipher_suites(AllowedCipherSuiteFlags::AES_128_GCM_SHA256);
        configuration.load_credential(&credential).map_err(|status| failed("certificate", &status))?;
        Ok(Self { configuration, registration })
    }

    fn handle(&self) -> HQUIC {
        // SAFETY: it is not closed with this handle.
        unsafe { self.registration.as_raw() }
    }

    fn configuration_handle(&self) -> HQUIC {
        // SAFETY: it is not closed with this handle.
        unsafe { self.configuration.as_raw() }
    }

    /// Listens on `address`; each connection gets a handler from `make`.
    ///
    /// # Errors
    ///
    /// If the address is taken or not ours.
    pub fn listen<H: ConnectionHandler>(
        &self,
        address: SocketAddr,
        make: impl Fn() -> H + Send + Sync + 'static,
    ) -> Result<Listening> {
        let configuration = self.configuration_handle() as usize;
        let listener = Listener::open(&self.registration, move |_, event| {
            let ListenerEvent::NewConnection { connection, .. } = event else { return Ok(()) };
            // SAFETY: it is not closed with this handle.
            let handle = unsafe { connection.as_raw() };
            // SAFETY: this is the callback that tells of it.
            unsafe { connection::accept(handle, make()) };
            // SAFETY: the handle is good in this callback, and the configuration's until the listener is closed.
            let status = unsafe { api!(ConnectionSetConfiguration)(handle, configuration as HQUIC) };
            Status::ok_from_raw(status)
        })
        .map_err(|status| failed("listener", &status))?;
        let address = Addr::from(address);
        listener.start(&[BufferRef::from(ALPN)], Some(&address)).map_err(|status| failed("listen", &status))?;
        Ok(Listening(listener))
    }

    /// Dials `remote` from `local` if there is one, on the socket that another connection has opened there, with a ticket
    /// if there is one. `prepare` may queue early data.
    ///
    /// Not in a callback: this waits for msquic's thread.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn dial<H: ConnectionHandler>(
        &self,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        ticket: Option<&[u8]>,
        handler: H,
        prepare: impl FnOnce(&Remote) -> Result<()>,
    ) -> Result<Arc<Remote>> {
        // SAFETY: the registration is good as long as this is there.
        let opened = unsafe { connection::open(self.handle(), handler) }?;
        // One that could not be started ends with the endpoint.
        self.start(opened.handle, remote, local, ticket, || prepare(&opened.remote))?;
        Ok(opened.remote)
    }

    fn start(
        &self,
        connection: HQUIC,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        ticket: Option<&[u8]>,
        prepare: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let port = remote.port();
        // The name is for the certificate: the address is given beside it.
        set(connection, ffi::QUIC_PARAM_CONN_REMOTE_ADDRESS, &Addr::from(remote))?;
        set(connection, ffi::QUIC_PARAM_CONN_SHARE_UDP_BINDING, &1_u8)?;
        if let Some(local) = local {
            set(connection, ffi::QUIC_PARAM_CONN_LOCAL_ADDRESS, &Addr::from(local))?;
        }
        if let Some(ticket) = ticket {
            let (length, value) = (u32::try_from(ticket.len())?, ticket.as_ptr().cast());
            // SAFETY: the connection is not closed before it is started, and the ticket is there for the call.
            let status = unsafe { api!(SetParam)(connection, ffi::QUIC_PARAM_CONN_RESUMPTION_TICKET, length, value) };
            check("ticket", status)?;
        }
        prepare()?;
        let (name, family) = (CString::new(SERVER_NAME)?, ffi::QUIC_ADDRESS_FAMILY_UNSPEC as u16);
        let configuration = self.configuration_handle();
        // SAFETY: the connection is not closed before it is started; the configuration is good, and the name copied.
        check("start", unsafe { api!(ConnectionStart)(connection, configuration, family, name.as_ptr(), port) })
    }
}

impl Drop for Endpoint {
    /// Ends all connections without a word, and waits for their last callbacks.
    fn drop(&mut self) {
        let silent = ffi::QUIC_CONNECTION_SHUTDOWN_FLAGS_QUIC_CONNECTION_SHUTDOWN_FLAG_SILENT;
        let registration = self.handle();
        // SAFETY: the registration is good. Closing it, which comes next, waits for its connections.
        unsafe { api!(RegistrationShutdown)(registration, silent, 0) };
    }
}

/// A listener. It ends when it is dropped, before its endpoint.
pub struct Listening(Listener);

impl Listening {
    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// If msquic cannot say.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = self.0.get_local_addr().map_err(|status| failed("listener's address", &status))?;
        address.as_socket().ok_or_else(|| "msquic: a listener without address".into())
    }
}

fn configuration(registration: &Registration, settings: &QUIC_SETTINGS) -> Result<Configuration> {
    let alpn = [BufferRef::from(ALPN)];
    let (count, length) = (alpn.len() as u32, size_of::<QUIC_SETTINGS>() as u32);
    let mut handle: HQUIC = std::ptr::null_mut();
    // SAFETY: it is not closed with this handle.
    let registration = unsafe { registration.as_raw() };
    let none = std::ptr::null_mut();
    // SAFETY: the registration is good, names and settings are there for the call; a `BufferRef` is a `QUIC_BUFFER`.
    let status = unsafe {
        api!(ConfigurationOpen)(registration, alpn.as_ptr().cast(), count, settings, length, none, &raw mut handle)
    };
    check("configuration", status)?;
    // SAFETY: it was just made, and nobody else has it.
    Ok(unsafe { Configuration::from_raw(handle) })
}

/// Sets a parameter of a connection that has not begun.
fn set<T>(connection: HQUIC, parameter: u32, value: &T) -> Result<()> {
    let length = size_of::<T>() as u32;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the connection is not closed before it is started; msquic looks at the length.
    let status = unsafe { api!(SetParam)(connection, parameter, length, value) };
    check(&format!("parameter {parameter:#x}"), status)
}

fn failed(what: &str, status: &Status) -> String {
    format!("msquic: {what}: {status}")
}

fn path(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}
