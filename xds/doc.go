// Package xds holds the shared types of the xDS protocol as this project speaks it.
//
// Resources have a name and a version. A node subscribes to them one by one, and answers each.
// Package xds/server streams a [Resources] to nodes. Package xds/client receives one. The drawing
// in ARCHITECTURE.md shows where they stand.
//
// The rules of this room:
//
//   - It knows no secret. What a resource means is the business of package sds and package lds.
//   - The client and the server share these types and nothing else. The edge links the client, so
//     it must not link the server.
//   - What a node answered is data: an [Event] is a value that others may keep and show.
//   - The bytes of a resource are encoded once and shared by all streams.
//
// Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
package xds
