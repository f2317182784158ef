module rdma-engine/rdmaengine

go 1.24
