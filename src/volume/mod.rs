//! SeaweedFS volumes: superblock, needle, index, file id. Knows nothing of UCX.
