//! The C ABI: one file for each section of the header. Checks arguments and calls; decides nothing.
