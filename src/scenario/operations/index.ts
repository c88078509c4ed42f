// Every operation of scenario files, by subject. A new file of operations is added to this list, nowhere else.
import { knownLabels } from '../../engine/step.ts';
// What operations reach by hooks alone: daemons, reclaim, memory errors.
import '../../mm/start.ts';
import { OperationRegistry } from '../operation.ts';
import { accessOperations } from './access.ts';
import { daemonOperations } from './daemons.ts';
import { directIoOperations } from './direct-io.ts';
import { dmaOperations } from './dma.ts';
import { fileOperations } from './files.ts';
import { filesystemOperations } from './filesystem.ts';
import { iouringOperations } from './iouring.ts';
import { kvmOperations } from './kvm.ts';
import { maintenanceOperations } from './maintenance.ts';
import { mappingOperations } from './mapping.ts';
import { movingOperations } from './moving.ts';
import { observeOperations } from './observe.ts';
import { pinOperations } from './pins.ts';
import { procOperations } from './proc.ts';
import { processOperations } from './process.ts';
import { rdmaOperations } from './rdma.ts';
import { uffdOperations } from './uffd.ts';
import { vfioOperations } from './vfio.ts';
import { vfioDeviceOperations } from './vfio-devices.ts';

export const OPERATIONS = new OperationRegistry(
  accessOperations,
  mappingOperations,
  movingOperations,
  maintenanceOperations,
  fileOperations,
  filesystemOperations,
  directIoOperations,
  pinOperations,
  daemonOperations,
  processOperations,
  procOperations,
  observeOperations,
  uffdOperations,
  vfioDeviceOperations,
  vfioOperations,
  dmaOperations,
  iouringOperations,
  rdmaOperations,
  kvmOperations,
);
// By now every module of the model that an operation can reach has declared its steps.
OPERATIONS.labels = knownLabels;
