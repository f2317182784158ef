//! UCX declarations: the part of `ucp/api/ucp.h` 1.13.1 that is used, by hand, checked against the C compiler's layout.
//!
//! Nothing is linked: the user loads `libucp.so.0` and looks functions up by name with the types of [`Functions`].
//! The C ABI only grows at the tail of structures, behind a mask, so these hold for every newer 1.x as well.
//! Constants that are newer than 1.13 say so and must not be used unless the loaded version has them.
#![no_std]
#![allow(non_camel_case_types, reason = "the names of the C header")]

use core::ffi::{c_char, c_int, c_uint, c_void};

/// `ucs_status_t`: a packed C enumeration, **one byte** wide. 0 ok, 1 in progress, negative an error.
pub type ucs_status_t = i8;
/// Done.
pub const UCS_OK: ucs_status_t = 0;
/// Goes on.
pub const UCS_INPROGRESS: ucs_status_t = 1;
/// Events are waiting: progress first.
pub const UCS_ERR_BUSY: ucs_status_t = -15;
/// Cancelled.
pub const UCS_ERR_CANCELED: ucs_status_t = -16;
/// The lowest status; pointers at or above it, as unsigned numbers, are errors.
pub const UCS_ERR_LAST: ucs_status_t = -100;

/// NULL: done. An error as a pointer: failed. Else a request.
pub type ucs_status_ptr_t = *mut c_void;

/// What a [`ucs_status_ptr_t`] says: `Ok(None)` done, `Ok(Some(request))` pending, `Err(status)` failed.
pub fn pointer_status(pointer: ucs_status_ptr_t) -> Result<Option<*mut c_void>, ucs_status_t> {
    let number = pointer as isize;
    if number == 0 {
        Ok(None)
    } else if number < 0 && number >= UCS_ERR_LAST as isize {
        Err(number as ucs_status_t)
    } else {
        Ok(Some(pointer))
    }
}

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[repr(C)]
        pub struct $name { _private: [u8; 0] }
    )* };
}

opaque! {
    /// A configuration that was read.
    ucp_config_t;
    /// Transports, devices and memory of a process.
    ucp_context;
    /// Progress, connections.
    ucp_worker;
    /// A connection.
    ucp_ep;
    /// Mapped memory.
    ucp_mem;
    /// A peer's memory.
    ucp_rkey;
    /// A worker's address: bytes of a length given beside it.
    ucp_address_t;
    /// C's `FILE`.
    c_file;
}

pub type ucp_context_h = *mut ucp_context;
pub type ucp_worker_h = *mut ucp_worker;
pub type ucp_ep_h = *mut ucp_ep;
pub type ucp_mem_h = *mut ucp_mem;
pub type ucp_rkey_h = *mut ucp_rkey;
pub type ucp_datatype_t = u64;

pub const UCP_PARAM_FIELD_FEATURES: u64 = 1 << 0;
pub const UCP_PARAM_FIELD_MT_WORKERS_SHARED: u64 = 1 << 5;
pub const UCP_PARAM_FIELD_NAME: u64 = 1 << 8;

pub const UCP_FEATURE_RMA: u64 = 1 << 1;
pub const UCP_FEATURE_AMO64: u64 = 1 << 3;
pub const UCP_FEATURE_WAKEUP: u64 = 1 << 4;
pub const UCP_FEATURE_AM: u64 = 1 << 6;

/// `ucp_params_t`.
#[repr(C)]
pub struct ucp_params_t {
    pub field_mask: u64,
    pub features: u64,
    pub request_size: usize,
    pub request_init: Option<unsafe extern "C" fn(*mut c_void)>,
    pub request_cleanup: Option<unsafe extern "C" fn(*mut c_void)>,
    pub tag_sender_mask: u64,
    pub mt_workers_shared: c_int,
    pub estimated_num_eps: usize,
    pub estimated_num_ppn: usize,
    pub name: *const c_char,
}

pub const UCP_WORKER_PARAM_FIELD_THREAD_MODE: u64 = 1 << 0;
pub const UCP_WORKER_PARAM_FIELD_FLAGS: u64 = 1 << 5;
pub const UCP_WORKER_FLAG_IGNORE_REQUEST_LEAK: u64 = 1 << 0;
pub const UCS_THREAD_MODE_SERIALIZED: c_uint = 1;

/// `ucp_worker_params_t`.
#[repr(C)]
pub struct ucp_worker_params_t {
    pub field_mask: u64,
    pub thread_mode: c_uint,
    pub cpu_mask: [u64; 16],
    pub events: c_uint,
    pub user_data: *mut c_void,
    pub event_fd: c_int,
    pub flags: u64,
    pub name: *const c_char,
    pub am_alignment: usize,
    pub client_id: u64,
}

pub const UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER: u64 = 1 << 3;

/// `ucp_worker_attr_t`.
#[repr(C)]
pub struct ucp_worker_attr_t {
    pub field_mask: u64,
    pub thread_mode: c_uint,
    pub address_flags: u32,
    pub address: *mut ucp_address_t,
    pub address_length: usize,
    pub max_am_header: usize,
    pub name: [c_char; 32],
    pub max_debug_string: usize,
}

pub const UCP_EP_PARAM_FIELD_REMOTE_ADDRESS: u64 = 1 << 0;
pub const UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE: u64 = 1 << 1;
pub const UCP_EP_PARAM_FIELD_ERR_HANDLER: u64 = 1 << 2;
pub const UCP_ERR_HANDLING_MODE_PEER: c_uint = 1;

/// Called when a connection failed.
pub type ucp_err_handler_cb_t = unsafe extern "C" fn(arg: *mut c_void, ep: ucp_ep_h, status: ucs_status_t);

/// `ucp_err_handler_t`.
#[repr(C)]
pub struct ucp_err_handler_t {
    pub cb: Option<ucp_err_handler_cb_t>,
    pub arg: *mut c_void,
}

/// `ucs_sock_addr_t`.
#[repr(C)]
pub struct ucs_sock_addr_t {
    pub addr: *const c_void,
    pub addrlen: u32,
}

/// `ucp_ep_params_t`.
#[repr(C)]
pub struct ucp_ep_params_t {
    pub field_mask: u64,
    pub address: *const ucp_address_t,
    pub err_mode: c_uint,
    pub err_handler: ucp_err_handler_t,
    pub user_data: *mut c_void,
    pub flags: c_uint,
    pub sockaddr: ucs_sock_addr_t,
    pub conn_request: *mut c_void,
    pub name: *const c_char,
    pub local_sockaddr: ucs_sock_addr_t,
}

pub const UCP_EP_CLOSE_FLAG_FORCE: u32 = 1 << 0;

pub const UCP_MEM_MAP_PARAM_FIELD_ADDRESS: u64 = 1 << 0;
pub const UCP_MEM_MAP_PARAM_FIELD_LENGTH: u64 = 1 << 1;

/// `ucp_mem_map_params_t`.
#[repr(C)]
pub struct ucp_mem_map_params_t {
    pub field_mask: u64,
    pub address: *mut c_void,
    pub length: usize,
    pub flags: c_uint,
    pub prot: c_uint,
    pub memory_type: c_uint,
}

pub const UCP_AM_HANDLER_PARAM_FIELD_ID: u64 = 1 << 0;
pub const UCP_AM_HANDLER_PARAM_FIELD_FLAGS: u64 = 1 << 1;
pub const UCP_AM_HANDLER_PARAM_FIELD_CB: u64 = 1 << 2;
pub const UCP_AM_HANDLER_PARAM_FIELD_ARG: u64 = 1 << 3;
pub const UCP_AM_FLAG_WHOLE_MSG: u32 = 1 << 0;

pub const UCP_AM_SEND_FLAG_EAGER: u32 = 1 << 1;
pub const UCP_AM_SEND_FLAG_RNDV: u32 = 1 << 2;

/// The data may be kept by returning [`UCS_INPROGRESS`].
pub const UCP_AM_RECV_ATTR_FLAG_DATA: u64 = 1 << 16;
/// The data is a descriptor of a rendezvous.
pub const UCP_AM_RECV_ATTR_FLAG_RNDV: u64 = 1 << 17;

/// `ucp_am_recv_param_t`.
#[repr(C)]
pub struct ucp_am_recv_param_t {
    pub recv_attr: u64,
    pub reply_ep: ucp_ep_h,
}

/// Called when an active message arrived.
pub type ucp_am_recv_callback_t = unsafe extern "C" fn(
    arg: *mut c_void,
    header: *const c_void,
    header_length: usize,
    data: *mut c_void,
    length: usize,
    param: *const ucp_am_recv_param_t,
) -> ucs_status_t;

/// `ucp_am_handler_param_t`.
#[repr(C)]
pub struct ucp_am_handler_param_t {
    pub field_mask: u64,
    pub id: c_uint,
    pub flags: u32,
    pub cb: Option<ucp_am_recv_callback_t>,
    pub arg: *mut c_void,
}

pub const UCP_OP_ATTR_FIELD_CALLBACK: u32 = 1 << 1;
pub const UCP_OP_ATTR_FIELD_USER_DATA: u32 = 1 << 2;
pub const UCP_OP_ATTR_FIELD_DATATYPE: u32 = 1 << 3;
pub const UCP_OP_ATTR_FIELD_FLAGS: u32 = 1 << 4;
pub const UCP_OP_ATTR_FIELD_REPLY_BUFFER: u32 = 1 << 5;

/// A gather or scatter list of [`ucp_dt_iov_t`].
pub const UCP_DATATYPE_IOV: ucp_datatype_t = 2;

/// `ucp_dt_make_contig(size)`.
pub const fn ucp_dt_make_contig(size: u64) -> ucp_datatype_t {
    size << 3
}

/// `ucp_dt_iov_t`.
#[repr(C)]
pub struct ucp_dt_iov_t {
    pub buffer: *mut c_void,
    pub length: usize,
}

pub const UCP_ATOMIC_OP_ADD: c_uint = 0;
pub const UCP_ATOMIC_OP_CSWAP: c_uint = 2;

/// Called when an operation other than a receive ended.
pub type ucp_send_nbx_callback_t =
    unsafe extern "C" fn(request: *mut c_void, status: ucs_status_t, user_data: *mut c_void);
/// Called when the data of an active message arrived.
pub type ucp_am_recv_data_nbx_callback_t =
    unsafe extern "C" fn(request: *mut c_void, status: ucs_status_t, length: usize, user_data: *mut c_void);

/// The callback of an operation.
#[repr(C)]
pub union ucp_callback_t {
    pub send: ucp_send_nbx_callback_t,
    pub recv_am: ucp_am_recv_data_nbx_callback_t,
}

/// `ucp_request_param_t`.
#[repr(C)]
pub struct ucp_request_param_t {
    pub op_attr_mask: u32,
    pub flags: u32,
    pub request: *mut c_void,
    pub cb: ucp_callback_t,
    pub datatype: ucp_datatype_t,
    pub user_data: *mut c_void,
    pub reply_buffer: *mut c_void,
    pub memory_type: c_uint,
    pub recv_info: *mut usize,
    pub memh: ucp_mem_h,
}

/// Print `NAME=value` lines.
pub const UCS_CONFIG_PRINT_CONFIG: c_uint = 1 << 0;

macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        /// Every function that is required of `libucp.so.0`, all in UCX 1.13.
        #[derive(Clone, Copy)]
        pub struct Functions { $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)* }

        impl Functions {
            /// Fills the table; `resolve` gives the address of a symbol, never NULL.
            ///
            /// # Errors
            /// The first error of `resolve`.
            ///
            /// # Safety
            /// Each address must be that of UCX's function of that name.
            pub unsafe fn resolve<E>(mut resolve: impl FnMut(&'static str) -> Result<*mut c_void, E>) -> Result<Functions, E> {
                Ok(Functions { $($name: {
                    let address = resolve(stringify!($name))?;
                    // SAFETY: the caller's promise; the type is that of the C header.
                    unsafe { core::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(address) }
                },)* })
            }
        }
    };
}

functions! {
    ucp_get_version: fn(*mut c_uint, *mut c_uint, *mut c_uint);
    ucs_status_string: fn(ucs_status_t) -> *const c_char;
    ucp_init_version: fn(c_uint, c_uint, *const ucp_params_t, *const ucp_config_t, *mut ucp_context_h) -> ucs_status_t;
    ucp_cleanup: fn(ucp_context_h);
    ucp_config_read: fn(*const c_char, *const c_char, *mut *mut ucp_config_t) -> ucs_status_t;
    ucp_config_release: fn(*mut ucp_config_t);
    ucp_config_modify: fn(*mut ucp_config_t, *const c_char, *const c_char) -> ucs_status_t;
    ucp_context_print_info: fn(ucp_context_h, *mut c_file);
    ucp_worker_create: fn(ucp_context_h, *const ucp_worker_params_t, *mut ucp_worker_h) -> ucs_status_t;
    ucp_worker_destroy: fn(ucp_worker_h);
    ucp_worker_get_address: fn(ucp_worker_h, *mut *mut ucp_address_t, *mut usize) -> ucs_status_t;
    ucp_worker_release_address: fn(ucp_worker_h, *mut ucp_address_t);
    ucp_worker_query: fn(ucp_worker_h, *mut ucp_worker_attr_t) -> ucs_status_t;
    ucp_worker_get_efd: fn(ucp_worker_h, *mut c_int) -> ucs_status_t;
    ucp_worker_arm: fn(ucp_worker_h) -> ucs_status_t;
    ucp_worker_signal: fn(ucp_worker_h) -> ucs_status_t;
    ucp_worker_progress: fn(ucp_worker_h) -> c_uint;
    ucp_worker_set_am_recv_handler: fn(ucp_worker_h, *const ucp_am_handler_param_t) -> ucs_status_t;
    ucp_ep_create: fn(ucp_worker_h, *const ucp_ep_params_t, *mut ucp_ep_h) -> ucs_status_t;
    ucp_ep_print_info: fn(ucp_ep_h, *mut c_file);
    ucp_ep_close_nbx: fn(ucp_ep_h, *const ucp_request_param_t) -> ucs_status_ptr_t;
    ucp_ep_flush_nbx: fn(ucp_ep_h, *const ucp_request_param_t) -> ucs_status_ptr_t;
    ucp_am_send_nbx: fn(ucp_ep_h, c_uint, *const c_void, usize, *const c_void, usize, *const ucp_request_param_t) -> ucs_status_ptr_t;
    ucp_am_recv_data_nbx: fn(ucp_worker_h, *mut c_void, *mut c_void, usize, *const ucp_request_param_t) -> ucs_status_ptr_t;
    ucp_am_data_release: fn(ucp_worker_h, *mut c_void);
    ucp_mem_map: fn(ucp_context_h, *const ucp_mem_map_params_t, *mut ucp_mem_h) -> ucs_status_t;
    ucp_mem_unmap: fn(ucp_context_h, ucp_mem_h) -> ucs_status_t;
    ucp_rkey_pack: fn(ucp_context_h, ucp_mem_h, *mut *mut c_void, *mut usize) -> ucs_status_t;
    ucp_rkey_buffer_release: fn(*mut c_void);
    ucp_ep_rkey_unpack: fn(ucp_ep_h, *const c_void, *mut ucp_rkey_h) -> ucs_status_t;
    ucp_rkey_destroy: fn(ucp_rkey_h);
    ucp_put_nbx: fn(ucp_ep_h, *const c_void, usize, u64, ucp_rkey_h, *const ucp_request_param_t) -> ucs_status_ptr_t;
    ucp_get_nbx: fn(ucp_ep_h, *mut c_void, usize, u64, ucp_rkey_h, *const ucp_request_param_t) -> ucs_status_ptr_t;
    ucp_atomic_op_nbx: fn(ucp_ep_h, c_uint, *const c_void, usize, u64, ucp_rkey_h, *const ucp_request_param_t) -> ucs_status_ptr_t;
    ucp_request_free: fn(*mut c_void);
}

/// Prints every setting of every loaded table, transports included. Not in `ucp.h`; 1.13 takes four arguments, newer
/// versions a filter as the fifth, so NULL is always passed there.
pub type ucs_config_parser_print_all_opts_t =
    unsafe extern "C" fn(*mut c_file, *const c_char, c_uint, *mut c_void, *const c_char);

macro_rules! layout {
    ($($type:ident: $size:literal { $($field:ident: $offset:literal),* })*) => { $(
        const _: () = assert!(size_of::<$type>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($type, $field) == $offset);)*
    )* };
}

// What gcc says of the 1.13.1 headers on 64-bit Linux.
#[cfg(target_pointer_width = "64")]
layout! {
    ucs_status_t: 1 {}
    ucp_params_t: 80 { features: 8, mt_workers_shared: 48, estimated_num_eps: 56, name: 72 }
    ucp_worker_params_t: 200 { thread_mode: 8, cpu_mask: 16, events: 144, flags: 168, name: 176, client_id: 192 }
    ucp_worker_attr_t: 80 { thread_mode: 8, address: 16, max_am_header: 32, name: 40, max_debug_string: 72 }
    ucp_ep_params_t: 104 { address: 8, err_mode: 16, err_handler: 24, flags: 48, sockaddr: 56, conn_request: 72, name: 80 }
    ucp_mem_map_params_t: 40 { address: 8, length: 16, flags: 24, prot: 28, memory_type: 32 }
    ucp_am_recv_param_t: 16 { reply_ep: 8 }
    ucp_am_handler_param_t: 32 { id: 8, flags: 12, cb: 16, arg: 24 }
    ucp_dt_iov_t: 16 { length: 8 }
    ucp_request_param_t: 72 { flags: 4, request: 8, cb: 16, datatype: 24, user_data: 32, reply_buffer: 40, memory_type: 48, recv_info: 56, memh: 64 }
}
