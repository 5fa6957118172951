//! The user-space library of the cards, loaded at run time.

use std::error::Error;
use std::path::Path;

use crate::Places;
use crate::error::Unavailable;
use crate::sys;

/// The functions that are used, of `libqat` and `libusdm`.
pub(crate) struct Library {
    pub(crate) user_start: sys::UserStart,
    pub(crate) user_stop: sys::UserStop,
    pub(crate) get_num_instances: sys::GetNumInstances,
    pub(crate) get_instances: sys::GetInstances,
    pub(crate) query_capabilities: sys::QueryCapabilities,
    pub(crate) sym_query_capabilities: sys::SymQueryCapabilities,
    pub(crate) instance_get_info: sys::InstanceGetInfo,
    pub(crate) set_address_translation: sys::SetAddressTranslation,
    pub(crate) start_instance: sys::Switch,
    pub(crate) stop_instance: sys::Switch,
    pub(crate) register_callback: sys::RegisterCallback,
    pub(crate) session_size: sys::SessionSize,
    pub(crate) init_session: sys::InitSession,
    pub(crate) remove_session: sys::RemoveSession,
    pub(crate) enqueue_batch: sys::EnqueueBatch,
    pub(crate) poll: sys::Poll,
    pub(crate) mem_alloc: sys::MemAlloc,
    pub(crate) mem_free: sys::MemFree,
    pub(crate) virt_to_phys: sys::Translate,
}

impl Library {
    /// Loads both libraries, for as long as the process lives: `libqat` starts threads of its own, and may not go while they run.
    ///
    /// # Errors
    /// One of them cannot be loaded, or lacks a function.
    pub(crate) fn load(places: &Places) -> Result<&'static Self, Unavailable> {
        let usdm = Opened::new(&places.libusdm)?;
        let qat = Opened::new(&places.libqat)?;
        Ok(Box::leak(Box::new(Self {
            user_start: qat.function("icp_sal_userStart")?,
            user_stop: qat.function("icp_sal_userStop")?,
            get_num_instances: qat.function("cpaCyGetNumInstances")?,
            get_instances: qat.function("cpaCyGetInstances")?,
            query_capabilities: qat.function("cpaCyQueryCapabilities")?,
            sym_query_capabilities: qat.function("cpaCySymQueryCapabilities")?,
            instance_get_info: qat.function("cpaCyInstanceGetInfo2")?,
            set_address_translation: qat.function("cpaCySetAddressTranslation")?,
            start_instance: qat.function("cpaCyStartInstance")?,
            stop_instance: qat.function("cpaCyStopInstance")?,
            register_callback: qat.function("cpaCySymDpRegCbFunc")?,
            session_size: qat.function("cpaCySymDpSessionCtxGetSize")?,
            init_session: qat.function("cpaCySymDpInitSession")?,
            remove_session: qat.function("cpaCySymDpRemoveSession")?,
            enqueue_batch: qat.function("cpaCySymDpEnqueueOpBatch")?,
            poll: qat.function("icp_sal_CyPollDpInstance")?,
            mem_alloc: usdm.function("qaeMemAllocNUMA")?,
            mem_free: usdm.function("qaeMemFreeNUMA")?,
            virt_to_phys: usdm.function("qaeVirtToPhysNUMA")?,
        })))
    }
}

/// A library that stays.
struct Opened<'a> {
    name: &'a Path,
    library: &'static libloading::Library,
}

impl<'a> Opened<'a> {
    fn new(name: &'a Path) -> Result<Self, Unavailable> {
        // SAFETY: what a library does when it is loaded is its own affair; this one is the system's, or the one that the caller named, and
        // is loaded for what it does.
        let opened = unsafe { libloading::Library::new(name) };
        match opened {
            Ok(library) => Ok(Self { name, library: Box::leak(Box::new(library)) }),
            Err(error) => {
                // What the system says is behind what was tried.
                let said = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                Err(Unavailable::NoLibrary { name: name.into(), error: said })
            }
        }
    }

    /// The function of that name; `F` is its type.
    fn function<F: Copy>(&self, name: &'static str) -> Result<F, Unavailable> {
        // SAFETY: `F` is the type that the headers of the library give to the function of this name, and the library stays.
        let found = unsafe { self.library.get::<F>(name.as_bytes()) };
        match found {
            Ok(function) => Ok(*function),
            Err(_) => Err(Unavailable::NoFunction { library: self.name.into(), function: name }),
        }
    }
}
