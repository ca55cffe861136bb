// Writes what Istio makes of its configuration, as Envoy's /config_dump would show it: main CONFIG MESH_CONFIG ADDRESS RESULT.
//
// The proxy is a sidecar at ADDRESS with the label authz/protected: "true". Standard output has Istio's log.
package main

import (
	"log"
	"os"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pkg/config/mesh"
	_ "istio.io/istio/pkg/config/xds"
	"istio.io/istio/pkg/test"
)

func packed(message proto.Message) *anypb.Any {
	value, err := anypb.New(message)
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func read(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	return string(text)
}

func dump(t test.Failer, config string, settings *meshconfig.MeshConfig, address string) *admin.ConfigDump {
	pilot := core.NewConfigGenTest(t, core.TestOptions{ConfigString: config, MeshConfig: settings})
	labels := map[string]string{"app": "notes", "authz/protected": "true"}
	proxy := pilot.SetupProxy(&model.Proxy{
		Labels:      labels,
		Metadata:    &model.NodeMetadata{IstioVersion: "1.30.0", Labels: labels},
		IPAddresses: []string{address},
	})
	listeners, clusters := &admin.ListenersConfigDump{}, &admin.ClustersConfigDump{}
	for _, each := range pilot.Listeners(proxy) {
		// The others are for requests that the application sends.
		if each.Name != model.VirtualInboundListenerName {
			continue
		}
		state := &admin.ListenersConfigDump_DynamicListenerState{Listener: packed(each)}
		listeners.DynamicListeners = append(listeners.DynamicListeners,
			&admin.ListenersConfigDump_DynamicListener{Name: each.Name, ActiveState: state})
	}
	for _, each := range pilot.Clusters(proxy) {
		clusters.DynamicActiveClusters = append(clusters.DynamicActiveClusters,
			&admin.ClustersConfigDump_DynamicCluster{Cluster: packed(each)})
	}
	return &admin.ConfigDump{Configs: []*anypb.Any{packed(listeners), packed(clusters)}}
}

func main() {
	config, address := read(os.Args[1]), os.Args[3]
	settings, err := mesh.ApplyMeshConfigDefaults(read(os.Args[2]))
	if err != nil {
		log.Fatal(err)
	}
	err = test.Wrap(func(t test.Failer) {
		text, err := protojson.Marshal(dump(t, config, settings, address))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(os.Args[4], text, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
}
