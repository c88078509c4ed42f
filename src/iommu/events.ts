// What the IOMMU layer tells observers.
import { eventType } from '../engine/event.ts';

/** A WARN or error message of the IOMMU layer: a caller asked for something that drivers answer differently. */
export interface IommuWarning {
  readonly domain: string;
  readonly page: number;
  readonly what: string;
}
export const IOMMU_WARNING = eventType<IommuWarning>('iommu-warning');

/** The tracepoints iommu:map and iommu:unmap: one call of iommu_map, or of iommu_unmap and iommu_unmap_fast. */
export interface IommuCall {
  readonly call: 'map' | 'unmap';
  readonly domain: string;
  /** First page, and what was asked for. */
  readonly page: number;
  readonly pages: number;
}
export const IOMMU_CALL = eventType<IommuCall>('iommu-call');
