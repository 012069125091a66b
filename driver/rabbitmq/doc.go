// Package rabbitmq makes accounts on a RabbitMQ broker, through its management
// API: a vhost for each instance, a user with permissions in that vhost for each
// binding.
//
// Users and vhosts are on the broker's disk before it answers, so a restart
// forgets nothing. What a request that nobody waits for any longer could do is
// kept from happening by a [fence].
package rabbitmq
