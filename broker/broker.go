// Package broker is the life of service instances and service bindings:
// provision, update, bind, rotate, unbind, deprovision.
package broker
