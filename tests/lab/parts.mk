# The results of the lab, each a path below target/lab, and their order. Called by
# `prepare`, which holds the lock. A result that exists is complete, whatever its age: what it is made
# from decides the order alone.

part := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))part

artifacts/%:
	$(part) $@
tools/%:
	$(part) $@
images/%:
	$(part) $@
roots/%:
	$(part) $@
repositories selinux:
	$(part) $@

roots/rocky roots/bookworm-vm: | roots/bookworm
roots/trixie-vm: | roots/trixie
roots/bookworm-cloud: | roots/bookworm-vm
repositories: | artifacts/1.7 artifacts/2.1 artifacts/runc-bookworm
