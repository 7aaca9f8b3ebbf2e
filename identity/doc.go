// Package identity says who a node is, as its transport proved it. It also says what a node of
// that identity may have.
//
// An identity is a string of names with one space between them. People are shown the first one,
// and a rule that matches any of them counts. Its forms:
//
//	spiffe://fleet.example/edge/1       the SPIFFE ID of the client certificate
//	edge-1.example edge-1.local         else the DNS names of the client certificate
//	unix:uid=1000                       the user at the other end of a unix socket
//	unix:unmapped                       a user there whom the kernel cannot name
//	                                    (empty) nobody is known, as with plaintext
//
// Its rules:
//
//   - An identity is what the transport proved. What a node says of itself, its id, is for people
//     and proves nothing. A rule's nodes say which ids an identity may use. They keep one node from
//     taking the name of another. They do not say what it gets.
//   - A client certificate with a SPIFFE ID has no other name. The common name never counts. A
//     certificate without a SPIFFE ID and DNS names gives an empty identity.
//   - The kernel says who is at the other end of a unix socket. It gives number 65534 for every
//     user that it cannot name, such as one of another user namespace. So that number is
//     unix:unmapped, and no rule can name it.
//   - A policy grants. What no rule grants is denied. Without a policy whoever can connect gets
//     everything.
//
// The package reads no policy file and knows no streams. Package enforce keeps the policy in
// force. Package transport makes the connections.
package identity
