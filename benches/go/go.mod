module rdma-engine/benches/go

go 1.24

require rdma-engine/rdmaengine v0.0.0

replace rdma-engine/rdmaengine => ../../go
