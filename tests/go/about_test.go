package hubflight

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

const service = "arrow.flight.protocol.FlightService"

func plain(t *testing.T) *grpc.ClientConn {
	t.Helper()
	connection := must[*grpc.ClientConn](t)(grpc.NewClient(address, plaintext))
	t.Cleanup(func() { connection.Close() })
	return connection
}

func TestAnybodyMayAskForHealth(t *testing.T) {
	client := grpc_health_v1.NewHealthClient(plain(t))
	for _, name := range []string{"", service} {
		answer := must[*grpc_health_v1.HealthCheckResponse](t)(client.Check(within(t), &grpc_health_v1.HealthCheckRequest{Service: name}))
		equal(t, answer.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	_, err := client.Check(within(t), &grpc_health_v1.HealthCheckRequest{Service: "snds.t_mco_b"})
	wrong(t, err, codes.NotFound, "there is `"+service+"`")
	// Nobody unknown keeps a call open.
	watched := must[grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse]](t)(
		client.Watch(within(t), &grpc_health_v1.HealthCheckRequest{Service: service}))
	_, err = watched.Recv()
	wrong(t, err, codes.Unimplemented, "ask with Check, again and again")
}

func reflected(t *testing.T, ctx context.Context, request *grpc_reflection_v1.ServerReflectionRequest) (*grpc_reflection_v1.ServerReflectionResponse, error) {
	t.Helper()
	stream := must[grpc_reflection_v1.ServerReflection_ServerReflectionInfoClient](t)(
		grpc_reflection_v1.NewServerReflectionClient(plain(t)).ServerReflectionInfo(ctx))
	// EOF: the answer is there already, and is read below.
	if err := stream.Send(request); err != io.EOF {
		done(t, err)
	}
	return stream.Recv()
}

func TestOnlyCallersMayAskWhatIsOffered(t *testing.T) {
	list := &grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}
	_, err := reflected(t, within(t), list)
	wrong(t, err, codes.Unauthenticated, logIn)
	_, ctx := flightClient(t, "visitor")
	answer := must[*grpc_reflection_v1.ServerReflectionResponse](t)(reflected(t, ctx, list))
	services := names(answer.GetListServicesResponse().Service, (*grpc_reflection_v1.ServiceResponse).GetName)
	equal(t, services, []string{service, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"})
}

func TestTheServiceIsDescribed(t *testing.T) {
	_, ctx := flightClient(t, "researcher")
	answer := must[*grpc_reflection_v1.ServerReflectionResponse](t)(reflected(t, ctx, &grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service}}))
	files := answer.GetFileDescriptorResponse().FileDescriptorProto
	equal(t, len(files), 1)
	var file descriptorpb.FileDescriptorProto
	done(t, proto.Unmarshal(files[0], &file))
	equal(t, len(file.Service), 1)
	equal(t, names(file.Service[0].Method, (*descriptorpb.MethodDescriptorProto).GetName), []string{"DoAction", "DoExchange",
		"DoGet", "DoPut", "GetFlightInfo", "GetSchema", "Handshake", "ListActions", "ListFlights", "PollFlightInfo"})
}
