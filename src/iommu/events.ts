// What the IOMMU layer tells observers.
import { eventType } from '../engine/event.ts';

/** A WARN or error message of the IOMMU layer: a caller asked for something that drivers answer differently. */
export interface IommuWarning {
  readonly domain: string;
  readonly page: number;
  readonly what: string;
}
export const IOMMU_WARNING = eventType<IommuWarning>('iommu-warning');
