// SPDX-License-Identifier: GPL-2.0

//! What dm core calls.

use super::{
    bio::{
        FailedBio,
        MapBio,
        PerBio,
        SucceededBio, //
    },
    info::{
        Common,
        TargetInfo, //
    },
    setup::{
        put_devices,
        Arg,
        Setup, //
    },
    status::{
        StatusKind,
        StatusWriter, //
    },
    Ioctl,
    Target,
    TargetType, //
};
use crate::{
    abstractions::{
        bio::status::BlkStatus,
        module::ModuleRef, //
    },
    bindings,
    THIS_MODULE, //
};
use core::{
    marker::PhantomData,
    mem::needs_drop,
    ptr::{
        null_mut,
        NonNull, //
    },
};
use kernel::{
    error::from_result,
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
    ioctl::_IOC_TYPE,
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::{
        atomic::Relaxed,
        rcu,
        Arc,
        ArcBorrow, //
    }, //
};

/// The private data of a target.
#[repr(C)]
struct Private<T> {
    // First, so that it is found without knowing `T`.
    common: Common,
    target: Arc<T>,
}

/// The callbacks for `T`.
pub(super) struct VTable<T>(PhantomData<T>);

impl<T: Target> VTable<T> {
    pub(super) const TYPE: bindings::target_type = bindings::target_type {
        name: as_char_ptr_in_const_context(T::NAME),
        module: THIS_MODULE.as_ptr(),
        version: T::VERSION,
        features: T::FEATURES.0,
        ctr: Some(Self::ctr),
        dtr: Some(Self::dtr),
        map: Some(Self::map),
        end_io: Some(Self::end_io),
        presuspend: if T::HAS_PRESUSPEND {
            Some(Self::presuspend)
        } else {
            None
        },
        presuspend_undo: if T::HAS_PRESUSPEND_UNDO {
            Some(Self::presuspend_undo)
        } else {
            None
        },
        postsuspend: if T::HAS_POSTSUSPEND {
            Some(Self::postsuspend)
        } else {
            None
        },
        resume: if T::HAS_RESUME {
            Some(Self::resume)
        } else {
            None
        },
        status: if T::HAS_STATUS {
            Some(Self::status)
        } else {
            None
        },
        message: if T::HAS_MESSAGE {
            Some(Self::message)
        } else {
            None
        },
        prepare_ioctl: if T::HAS_PREPARE_IOCTL {
            Some(Self::prepare_ioctl)
        } else {
            None
        },
        iterate_devices: Some(Self::iterate_devices),
        clone_and_map_rq: None,
        release_clone_rq: None,
        rq_end_io: None,
        preresume: None,
        report_zones: None,
        // dm core asks this of request-based targets only.
        busy: None,
        io_hints: None,
        direct_access: None,
        dax_zero_page_range: None,
        dax_recovery_write: None,
        list: bindings::list_head {
            next: null_mut(),
            prev: null_mut(),
        },
    };

    /// The target that `ti` is for dm core.
    ///
    /// # Safety
    ///
    /// `ti` must be a target of this type whose `ctr` has succeeded and whose private data is not
    /// dropped for `'a`.
    #[inline]
    unsafe fn target<'a>(ti: *mut bindings::dm_target) -> ArcBorrow<'a, T> {
        // SAFETY: The caller promises that it is valid, and `ctr` has set this.
        let private = unsafe { &*(*ti).private.cast::<Private<T>>() };
        private.target.as_arc_borrow()
    }

    /// The target, and what it is for dm core.
    ///
    /// # Safety
    ///
    /// As for [`Self::target`], and `dtr` must not begin for `'a`.
    unsafe fn both<'a>(ti: *mut bindings::dm_target) -> (ArcBorrow<'a, T>, &'a TargetInfo) {
        // SAFETY: The caller promises it.
        let target = unsafe { Self::target(ti) };
        // SAFETY: As above.
        (target, unsafe { TargetInfo::from_raw(ti) })
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn ctr(
        ti: *mut bindings::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
    ) -> c_int {
        from_result(|| {
            // SAFETY: dm core calls this for a new target, which is ours alone by now.
            let mut setup = unsafe { Setup::new(ti)? };
            // A target must not come to be when the init of the module may still fail.
            if ModuleRef::try_get().is_none() {
                return Err(setup.fail(c"the module is not ready", EAGAIN));
            }
            // SAFETY: dm core sets the type before `ctr`; it is the first field of ours, which is
            // a static.
            let target_type = unsafe { &*(*ti).type_.cast::<TargetType<T>>() };
            let Some(context) = target_type.context() else {
                return Err(setup.fail(c"the target type is being unregistered", ENODEV));
            };
            // SAFETY: dm core gives us as many strings, which it frees after the call.
            let args = unsafe { Arg::slice(argc, argv) };
            // First, so that nothing can fail when the target is there.
            let private = KBox::<Private<T>>::new_uninit(GFP_KERNEL)?;
            setup.set_per_bio_size(PerBio::<T::BioData>::SIZE)?;
            let target = T::ctr(&mut setup, args, context.as_arc_borrow())?;
            let private = private.write(Private {
                common: setup.finish(),
                target,
            });
            let events = private.common.events.clone();
            // SAFETY: dm core leaves this field to us.
            unsafe { (*ti).private = KBox::into_raw(private).cast() };
            // SAFETY: It has succeeded, and `dtr` revokes.
            unsafe { events.made() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn dtr(ti: *mut bindings::dm_target) {
        // SAFETY: dm core calls this for a target whose `ctr` has succeeded.
        let events = unsafe { TargetInfo::from_raw(ti) }.common().events.clone();
        // Nobody looks at the target outside of its callbacks any more.
        events.revoke();
        // SAFETY: `ctr` has set it, and dm core calls this once.
        let private = unsafe { KBox::from_raw((*ti).private.cast::<Private<T>>()) };
        if private.common.has_kept.load(Relaxed) {
            // `end_io` may still be busy after it gave away a clone that has ended since.
            // SAFETY: Not an unsafe operation, as far as memory goes.
            unsafe { bindings::synchronize_rcu() };
        }
        T::dtr(private.target.as_arc_borrow());
        private.common.holders.shut();
        // SAFETY: They were got in `ctr`. No clone is left, and `ti` is reached in callbacks and
        // through clones only.
        unsafe { put_devices(ti, &private.common.devices) };
        // SAFETY: dm core leaves this field to us.
        unsafe { (*ti).private = null_mut() };
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn map(ti: *mut bindings::dm_target, bio: *mut bindings::bio) -> c_int {
        // SAFETY: dm core calls this in a read section for which `dtr` waits.
        let target = unsafe { Self::target(ti) };
        // SAFETY: dm core gives us a clone.
        let bio = unsafe { NonNull::new_unchecked(bio) };
        // SAFETY: dm core gives us the clone, for this target.
        let bio = unsafe { MapBio::new(ti, bio) };
        T::map(target, bio).into_raw()
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn end_io(
        ti: *mut bindings::dm_target,
        bio: *mut bindings::bio,
        status: *mut bindings::blk_status_t,
    ) -> c_int {
        // SAFETY: dm core gives us a place to read and write.
        if unsafe { *status } != BlkStatus::OK.as_raw() {
            // SAFETY: As for us.
            return unsafe { Self::end_io_error(ti, bio, status) };
        }
        if T::HAS_SUCCEEDED {
            // SAFETY: dm core waits for the clone, which it gets only when we return.
            let target = unsafe { Self::target(ti) };
            // SAFETY: It went through our `map`, and is given to us.
            T::succeeded(target, unsafe { SucceededBio::new(bio) });
        }
        if needs_drop::<T::BioData>() {
            // SAFETY: dm core calls this for clones that went through our `map`.
            let per_bio = unsafe { PerBio::<T::BioData>::of(bio) };
            // SAFETY: `map` has initialised it, and nobody looks at it again.
            unsafe { core::ptr::drop_in_place(per_bio) };
        }
        bindings::DM_ENDIO_DONE as c_int
    }

    /// # Safety
    ///
    /// As dm core calls `end_io`.
    #[cold]
    unsafe fn end_io_error(
        ti: *mut bindings::dm_target,
        bio: *mut bindings::bio,
        status: *mut bindings::blk_status_t,
    ) -> c_int {
        // SAFETY: dm core calls this for clones that went through our `map`.
        let per_bio = unsafe { NonNull::new_unchecked(PerBio::<T::BioData>::of(bio)) };
        // SAFETY: `map` has initialised it, and the clone is given to us.
        if !T::HAS_FAILED || unsafe { per_bio.as_ref() }.ended() {
            // SAFETY: As above, and nobody looks at it again.
            unsafe { core::ptr::drop_in_place(per_bio.as_ptr()) };
            return bindings::DM_ENDIO_DONE as c_int;
        }
        let _section = rcu::read_lock();
        // SAFETY: dm core waits for the clone, so `dtr` has not begun. It waits for `_section`,
        // should the clone be given away and end.
        let target = unsafe { Self::target(ti) };
        // SAFETY: dm core gives us a clone.
        let bio = unsafe { NonNull::new_unchecked(bio) };
        // SAFETY: dm core gives us the clone, and `map` has initialised its data.
        let bio = unsafe { FailedBio::new(bio, per_bio) };
        // SAFETY: dm core gives us a place to read and write.
        let raw = unsafe { &mut *status };
        let ended = T::failed(target, bio, BlkStatus::from_raw(*raw));
        if ended.answer == bindings::DM_ENDIO_DONE {
            *raw = ended.status.as_raw();
        }
        ended.answer as c_int
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn presuspend(ti: *mut bindings::dm_target) {
        // SAFETY: dm core calls this for a target of the live table.
        let (target, info) = unsafe { Self::both(ti) };
        T::presuspend(target, info);
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn presuspend_undo(ti: *mut bindings::dm_target) {
        // SAFETY: dm core calls this for a target of the live table.
        let (target, info) = unsafe { Self::both(ti) };
        T::presuspend_undo(target, info);
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn postsuspend(ti: *mut bindings::dm_target) {
        // SAFETY: dm core calls this for a target of the live table.
        let (target, info) = unsafe { Self::both(ti) };
        T::postsuspend(target, info);
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn resume(ti: *mut bindings::dm_target) {
        // SAFETY: dm core calls this for a target of the live table.
        let (target, info) = unsafe { Self::both(ti) };
        T::resume(target, info);
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn status(
        ti: *mut bindings::dm_target,
        kind: bindings::status_type_t,
        _flags: c_uint,
        result: *mut c_char,
        maxlen: c_uint,
    ) {
        // SAFETY: dm core gives us a buffer of that size.
        let mut out = unsafe { StatusWriter::new(result, maxlen as usize) };
        let Some(kind) = StatusKind::from_raw(kind) else {
            return;
        };
        // SAFETY: dm core calls this for a target of a table that it keeps for the call.
        let (target, info) = unsafe { Self::both(ti) };
        T::status(target, info, kind, &mut out);
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn message(
        ti: *mut bindings::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
        _result: *mut c_char,
        _maxlen: c_uint,
    ) -> c_int {
        // SAFETY: dm core gives us as many strings, which it frees after the call.
        let words = unsafe { Arg::slice(argc, argv) };
        // SAFETY: dm core calls this for a target of a table that it keeps for the call.
        let (target, info) = unsafe { Self::both(ti) };
        // 0 says that there is no reply.
        from_result(|| T::message(target, info, words).map(|()| 0))
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn prepare_ioctl(
        ti: *mut bindings::dm_target,
        bdev: *mut *mut bindings::block_device,
        cmd: c_uint,
        _arg: c_ulong,
        forward: *mut bool,
    ) -> c_int {
        if _IOC_TYPE(cmd) == bindings::RMPATH_DM_IOCTL {
            // SAFETY: dm core gives us a place to write.
            unsafe { *forward = false };
            if !T::HAS_PROBE_PATHS || cmd != bindings::RMPATH_DM_MPATH_PROBE_PATHS {
                return ENOTTY.to_errno();
            }
            // SAFETY: dm core calls this for a target of a table that it keeps until the ioctl is
            // over.
            let (target, info) = unsafe { Self::both(ti) };
            return from_result(|| T::probe_paths(target, info).map(|()| 0));
        }
        // SAFETY: dm core calls this for a target of a table that it keeps until the ioctl is over.
        let (target, info) = unsafe { Self::both(ti) };
        let device = match T::prepare_ioctl(target, info) {
            Ok(Ioctl::Forward(device)) => device,
            Ok(Ioctl::Wait) => return -(bindings::ENOTCONN as c_int),
            Err(error) => return error.to_errno(),
        };
        let Some(device) = info.device(device) else {
            return EIO.to_errno();
        };
        // SAFETY: dm core gives us a place to write.
        unsafe { *bdev = device.bdev_ptr() };
        // 1 asks dm core to look at the caller's rights.
        c_int::from(device.bdev().nr_sectors() != info.len())
    }

    /// # Safety
    ///
    /// As dm core calls it.
    unsafe extern "C" fn iterate_devices(
        ti: *mut bindings::dm_target,
        callout: bindings::iterate_devices_callout_fn,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: dm core calls this for a target of a table that it keeps for the call.
        let info = unsafe { TargetInfo::from_raw(ti) };
        let Some(callout) = callout else { return 0 };
        for device in &info.common().devices {
            // SAFETY: That is how dm core wants its function to be called.
            let ret = unsafe { callout(ti, device.dev(), info.begin(), info.len(), data) };
            if ret != 0 {
                return ret;
            }
        }
        0
    }
}
