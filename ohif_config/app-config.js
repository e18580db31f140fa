/**
 * Configuration of the OHIF viewer, a template: the server puts the path of its DICOMweb root in place of the
 * percent-marked word when it answers /ohif/app-config.js (dicomhub/web/viewer.py).
 *
 * The root is resolved against the page, so the same file works on 127.0.0.1, behind a proxy and behind TLS.
 */
const dicomWebRoot = new URL('%DICOMWEB_ROOT%', window.location.origin).href;

window.config = {
  name: 'dicomhub',
  routerBasename: '/ohif',
  whiteLabeling: {
    createLogoComponentFn: React =>
      React.createElement('img', { src: '/ohif/assets/dicomhub.svg', alt: 'dicomhub', style: { height: 22 } }),
  },
  extensions: [],
  modes: [],
  customizationService: {},
  showStudyList: true,
  maxNumberOfWebWorkers: 3,
  showWarningMessageForCrossOrigin: true,
  showCPUFallbackMessage: true,
  showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true,
  groupEnabledModesFirst: true,
  // HTTP/1.1 gives a browser six connections to one host; more requests than that only wait in its queue.
  maxNumRequests: { interaction: 20, thumbnail: 6, prefetch: 12 },
  showErrorDetails: 'always',
  // Neither the viewer nor this server is a cleared medical device: say so once a month.
  investigationalUseDialog: { option: 'configure', days: 30 },
  defaultDataSourceName: 'dicomhub',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'dicomhub',
      configuration: {
        friendlyName: 'dicomhub',
        name: 'dicomhub',
        qidoRoot: dicomWebRoot,
        wadoRoot: dicomWebRoot,
        wadoUriRoot: dicomWebRoot,
        qidoSupportsIncludeField: true,
        supportsWildcard: true,
        supportsFuzzyMatching: true,
        supportsReject: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        dicomUploadEnabled: true,
        bulkDataURI: { enabled: true },
        omitQuotationForMultipartRequest: true,
      },
    },
  ],
  httpErrorHandler: error => {
    console.warn(`DICOMweb request failed with status ${error.status}`);
  },
};
